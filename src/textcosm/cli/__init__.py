"""The command ``textcosm``: data on stdout, notes on stderr, one clear line and a non-zero exit code for what fails."""

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from keyword import iskeyword

from textcosm.errors import TextcosmError

COMMANDS = {
    "generate": "write new texts, made from noise",
    "train": "train a model on your own texts: autoencoder, latent cache, diffusion",
    "distill": "teach a student to write in a few steps what a trained model writes in many",
    "baseline": "train a rival on the same texts: an autoregressive or a masked model",
    "evaluate": "measure new texts beside real ones, in a report that others can repeat",
    "compare": "set reports side by side, with the differences and what they are worth",
    "bench": "time models and rivals side by side on this machine",
    "reconstruct": "send texts through the latent space and back, and count the tokens that survive",
    "rewrite": "write texts anew, as near to what they were as you like",
    "infill": "fill the blanks of texts",
    "continue": "write on from the beginnings of texts",
    "interpolate": "write the texts on the way from one text to another",
    "probe": "learn labels from a file, to guide new texts by them (generate --probe)",
    "info": "show what a model is, how it was trained and what was measured",
    "presets": "list the training recipes that --preset names",
    "doctor": "show what this machine can do, what is missing, and how to get it",
}
"""Name -> one sentence; each lives in the module of its name and is imported only when it is called.

A word of Python's own, such as continue, has a module with an underscore after it.
"""

DONE, REFUSED_BY_SYSTEM, CANNOT_BE_MET, INTERRUPTED = 0, 1, 2, 130


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; the exit code is 0, 1 (the system refused), 2 (the request cannot be met) or 130 (Ctrl-C)."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return _dispatch(given)
    except TextcosmError as error:
        return _fail(str(error), CANNOT_BE_MET)
    except BrokenPipeError:
        # The reader (``| head``) has seen enough; without this, Python complains again when it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return DONE
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else str(error), REFUSED_BY_SYSTEM)
    except KeyboardInterrupt:
        return _fail("stopped", INTERRUPTED)


def usage() -> str:
    """The overview that ``textcosm --help`` prints."""
    lines = [f"  {name:<13}{sentence}" for name, sentence in COMMANDS.items()]
    return "\n".join(
        [
            "usage: textcosm COMMAND [OPTIONS]",
            "",
            "Text diffusion in a compressed, smooth latent space.",
            "",
            *lines,
            "",
            "textcosm COMMAND --help shows the options of a command; textcosm --version the version.",
        ]
    )


def _dispatch(given: list[str]) -> int:
    name, rest = (given[0], given[1:]) if given else ("--help", [])
    if name in ("--help", "-h"):
        print(usage())
    elif name == "--version":
        from textcosm import __version__

        print(__version__)
    elif name in COMMANDS:
        code = import_module(f"textcosm.cli.{name}{'_' * iskeyword(name)}").run(rest)
        sys.stdout.flush()  # here, so that a full disk or a closed pipe is an error with a line of its own
        return code or DONE
    else:
        return _fail(f"there is no command {name!r}; there are {', '.join(COMMANDS)}", CANNOT_BE_MET)
    return DONE


def _fail(reason: str, code: int) -> int:
    print("textcosm: " + " ".join(reason.split()), file=sys.stderr)
    return code
