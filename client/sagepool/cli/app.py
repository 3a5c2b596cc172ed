"""The tree of commands, and how each way of ending becomes a sentence and an exit code.

docs/command-line.md has the table of exit codes. What a command needs is imported when it runs:
`--help` loads the parser and nothing else.
"""

import errno
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Final

import typer

from sagepool.cli import apply, chat, doctor, embed, inference, instance, llm, model, pool
from sagepool.laptop.errors import CommandError, NothingFound

_FAILED: Final = 1
_WRONG_USE: Final = 2
_INTERRUPTED: Final = 130
_UNREAD: Final = 141
"""As a shell tells of programs that SIGPIPE has ended: whoever read the output has left."""
_USAGE_ERROR: Final[type[Exception]] = typer.BadParameter.__mro__[1]
"""typer names only the narrowest of its parser's errors."""
_NAMES: Final = ("sage", "sagepool")
_NO_COMMAND: Final = "NoArgsIsHelpError"
"""The parser's error for a group without a command; its text is the group's help."""

app: Final = typer.Typer(
    name="sage",
    help="Run chat and embedding models as one pool, here or in a cluster, and use them.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.add_typer(inference.app, name="inference")
app.add_typer(llm.app, name="llm")
app.add_typer(llm.finetune_app, name="finetune")
pool.app.command("apply")(apply.apply)
app.add_typer(pool.app, name="pool")
app.add_typer(instance.app, name="instance")
app.add_typer(model.app, name="model")
app.command("chat")(chat.chat)
app.command("embed")(embed.embed)
app.command("doctor")(doctor.doctor)


def _print_version(is_wanted: bool) -> None:
    if is_wanted:
        from importlib.metadata import version

        print(f"sage {version('sagepool')}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show where in the program an error came from.")
    ] = False,
) -> None:
    """Taken out by `run`, wherever it stands; declared here for --help."""


def run(arguments: Sequence[str], program: str = "sage") -> int:
    """Run a command line. Returns the exit code.

    Args:
        arguments: the words after the program's name.
        program: as which it was called; another name than its own counts as sage.
    """
    name = program if program in _NAMES else _NAMES[0]
    words, debug = _without_debug(arguments)
    try:
        result = app(args=words, prog_name=name, standalone_mode=False)
        sys.stdout.flush()  # here, where what stands against it becomes a sentence
    except CommandError as error:
        return _say(str(error), error.exit_code, debug)
    except _USAGE_ERROR as error:
        if type(error).__name__ == _NO_COMMAND:
            print(error, file=sys.stderr)
            return _WRONG_USE
        return _say(_usage(error), _WRONG_USE, debug)
    except (typer.Abort, KeyboardInterrupt):
        return _INTERRUPTED
    except BrokenPipeError:
        return _unread()
    except SystemExit as end:  # typer's way with a pipe that broke; else its own end
        if isinstance(end.__context__, BrokenPipeError):
            return _unread()
        raise
    except Exception as error:
        return _say(*_unforeseen(error), debug)
    return result if isinstance(result, int) else 0


def _without_debug(arguments: Sequence[str]) -> tuple[list[str], bool]:
    """The words without --debug, and whether it was there; behind `--` it is a word as any."""
    end = arguments.index("--") if "--" in arguments else len(arguments)
    options = [word for word in arguments[:end] if word != "--debug"]
    return [*options, *arguments[end:]], len(options) < end


def _say(sentence: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    print(f"sage: {sentence}", file=sys.stderr)
    return code


def _unread() -> int:
    """The reader has left; what is still in the buffer must not be tried again at the exit."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return _UNREAD


def _unforeseen(error: Exception) -> tuple[str, int]:
    """The sentence and the exit code of an error that no command made its own."""
    from sagepool.errors import ConfigurationError, NotFoundError, SagepoolError

    if isinstance(error, SagepoolError):  # the client's errors are sentences
        if isinstance(error, ConfigurationError):
            return str(error), _WRONG_USE
        return str(error), NothingFound.exit_code if isinstance(error, NotFoundError) else _FAILED
    if isinstance(error, UnicodeEncodeError):
        return (
            f"the output has signs that {error.encoding} lacks, the encoding of this locale: set "
            "LC_ALL=C.UTF-8",
            _FAILED,
        )
    if isinstance(error, OSError) and error.strerror:
        what = error.filename or ("the output cannot be written" if _is_about_room(error) else "")
        return ": ".join(filter(None, (str(what), error.strerror.lower()))), _FAILED
    return f"{str(error) or type(error).__name__} (--debug shows where)", _FAILED


def _is_about_room(error: OSError) -> bool:
    return error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def _usage(error: BaseException) -> str:
    """The parser's sentence and where the right use stands."""
    words = str(getattr(error, "format_message", lambda: error)()).rstrip(".")
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "sage"
    return f"{words[:1].lower()}{words[1:]} (see {command} --help)"
