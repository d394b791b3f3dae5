"""Network parts that two rooms or more share."""
