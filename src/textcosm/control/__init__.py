"""The control room: a hand on the wheel of any model while it samples, and a choice among its candidates, without retraining."""
