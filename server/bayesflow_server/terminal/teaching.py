"""What the help of each command says: two or three sentences, examples that work in this folder."""

from dataclasses import dataclass
from typing import Final, Literal

__all__ = ["CONNECT", "FIRST", "GROUPS", "LESSONS", "Group", "Lesson"]

Group = Literal["serve", "search", "look", "keep"]
GROUPS: Final[dict[Group, str]] = {
    "serve": "for agents",
    "search": "search a workflow",
    "look": "look at what was found",
    "keep": "keep house",
}


@dataclass(frozen=True)
class Lesson:
    """The help of one command.

    Attributes:
        group: Where the list of commands shows it.
        short: A line of that list.
        text: Two or three sentences.
        usage: Its arguments, flags in short.
        examples: Commands that work as they stand where the repository is.
        codes: Exit codes that need a word here, beside those of every command.
    """

    group: Group
    short: str
    text: str
    usage: str
    examples: tuple[str, ...]
    codes: tuple[str, ...] = ()


_RUN_CODES: Final = ("1 the run paused, failed or was cancelled; everything found is kept",)

FIRST: Final = (
    "bayesflow-mcp pull smollm2",
    "bayesflow-mcp run examples/arithmetic/task.toml",
    "bayesflow-mcp show latest",
)
CONNECT: Final = "claude mcp add bayesflow -- bayesflow-mcp"

LESSONS: Final[dict[str, Lesson]] = {
    "serve": Lesson(
        "serve",
        "serve MCP on stdin and stdout (the default)",
        "Speaks the Model Context Protocol with the program that started it, until that closes "
        "stdin. Runs go on where a stopped process left them. --read-only and --tools narrow what "
        "an agent may do.",
        "serve [FLAGS]",
        (
            "bayesflow-mcp serve",
            "bayesflow-mcp serve --read-only",
            "bayesflow-mcp serve --tools check_task,start_bayesflow_run,get_run --confirm-above 2",
        ),
    ),
    "worker": Lesson(
        "serve",
        "work on runs outside any agent's host",
        "Takes runs that no process works on and brings them to their end, so that they outlive "
        "the agent's host. Ctrl-C gives them back; another worker or server goes on.",
        "worker [--once] [FLAGS]",
        ("bayesflow-mcp worker", "bayesflow-mcp worker --once --json"),
        ("1 a run that it took did not finish",),
    ),
    "check": Lesson(
        "search",
        "look at a task before anything is spent",
        "Reads a task.toml or a data file as a run would: splits, the scorer on known answers, "
        "models, what a run may take at most. It calls no model, unless --judge-agreement is "
        "given. --write makes a task.toml of what was found.",
        "check TASK [FLAGS]",
        (
            "bayesflow-mcp check examples/arithmetic/task.toml",
            "bayesflow-mcp check examples/sentiment/rows.jsonl --instructions 'Name the mood.' "
            "--executor local:smollm2",
            "bayesflow-mcp check examples/sentiment/task.toml --usd 1 --json",
        ),
        ("1 something stands in the way of a run",),
    ),
    "run": Lesson(
        "search",
        "search a workflow for a task.toml or a data file",
        "Searches workflows for a task and shows how it gets on; at the end the pool, the best "
        "workflow and its score on rows that the search never saw. Ctrl-C stops it, `resume` goes "
        "on, and no finished call is repeated.",
        "run TASK [FLAGS]",
        (
            "bayesflow-mcp run examples/arithmetic/task.toml --out out/arithmetic",
            "bayesflow-mcp run examples/sentiment/task.toml --seed 1 --minutes 10",
            "bayesflow-mcp run examples/arithmetic/task.toml --calls 2000 --option particles=4 "
            "--json",
        ),
        _RUN_CODES,
    ),
    "resume": Lesson(
        "search",
        "go on with a run that stopped",
        "Takes a paused, interrupted, failed or cancelled run and goes on where it stopped; a "
        "finished one is shown. A budget given here is the new total, with what was spent before.",
        "resume RUN [FLAGS]",
        ("bayesflow-mcp resume latest", "bayesflow-mcp resume latest --calls 20000 --minutes 30"),
        _RUN_CODES,
    ),
    "wait": Lesson(
        "search",
        "follow a run that another process works on",
        "Shows the progress of a run that a server or a worker has in hand, and ends when it ends. "
        "It never takes a run over: where nobody works on it, it says so and what to do.",
        "wait RUN [--timeout SECONDS] [FLAGS]",
        ("bayesflow-mcp wait latest", "bayesflow-mcp wait latest --timeout 600 --json"),
        (*_RUN_CODES, "75 the time of --timeout is over; the run goes on"),
    ),
    "cancel": Lesson(
        "search",
        "stop a run, whoever works on it",
        "Stops a run in whatever process it goes on. Everything it found is kept, and `resume` "
        "goes on with it.",
        "cancel RUN [FLAGS]",
        ("bayesflow-mcp cancel latest", "bayesflow-mcp cancel latest --json"),
    ),
    "bench": Lesson(
        "search",
        "measure the paper's tables on a benchmark",
        "Measures searches and baselines on a benchmark's file as its authors publish it, and "
        "prints the paper's tables beside the published figures. What is measured is kept: the "
        "same command goes on where it stopped. --compare sets two results side by side.",
        "bench NAME --data PATH --optimizer MODEL --executor MODEL [FLAGS]",
        (
            "bayesflow-mcp bench gsm8k --data test.jsonl --optimizer grammar "
            "--executor local:smollm2 --seeds 1 --rows 100 --out gsm8k.json",
            "bayesflow-mcp bench --compare before.json after.json",
        ),
        ("1 it stopped before everything was measured; the same command goes on",),
    ),
    "runs": Lesson(
        "look",
        "list the newest runs",
        "Lists runs, newest first: when they began, how they stand, what their best workflow "
        "scored on test rows. `latest` names the newest wherever a run is asked for.",
        "runs [FLAGS]",
        (
            "bayesflow-mcp runs",
            "bayesflow-mcp runs --status paused,interrupted",
            "bayesflow-mcp runs --limit 500 --json",
        ),
    ),
    "show": Lesson(
        "look",
        "show a run: pool, evidence, scores, what happened",
        "Shows all there is of a run, finished or not: rounds and lineages, the pool with its "
        "posterior and evidence, the accuracy-cost front, test scores, decisions and events. "
        "--out writes the best workflow, the report and a plot into a folder.",
        "show RUN [FLAGS]",
        (
            "bayesflow-mcp show latest",
            "bayesflow-mcp show latest --out out/latest",
            "bayesflow-mcp show latest --json",
        ),
    ),
    "plot": Lesson(
        "look",
        "draw a run: rewards, genealogy, posterior, cost",
        "Writes a run's plots as PNG files and says what is in each: reward per round, where "
        "particles come from, the posterior, accuracy against cost. It needs matplotlib (the "
        "extra `plot`).",
        "plot RUN [--out FOLDER] [FLAGS]",
        (
            "bayesflow-mcp plot latest --out out/plots",
            "bayesflow-mcp plot latest --kind genealogy,posterior --json",
        ),
    ),
    "prune": Lesson(
        "keep",
        "delete runs and old answers of models",
        "Deletes runs by id, age or status, with all that belongs to them, and gives the space "
        "back. It shows what would go and asks; without a terminal it wants --yes. A run that "
        "works is never touched.",
        "prune [RUN ...] [FLAGS]",
        (
            "bayesflow-mcp prune --older-than 30d --dry-run",
            "bayesflow-mcp prune --older-than 30d --status failed,cancelled --yes",
            "bayesflow-mcp prune --cache-older-than 90d",
        ),
        ("1 you said no, or a run was taken up meanwhile", "2 --yes is missing in a script"),
    ),
    "backup": Lesson(
        "keep",
        "copy the database while others write to it",
        "Writes a consistent copy of the database into a new file that only you may read, and "
        "checks it. Nothing is ever written over. To go back, stop every server and put the copy "
        "in the database's place, or name it with --db.",
        "backup FILE [FLAGS]",
        ("bayesflow-mcp backup bayesflow-backup.sqlite3",),
    ),
    "pull": Lesson(
        "keep",
        "fetch a local model's weights into the user's cache",
        "Fetches a small model that runs on this machine, or registers a GGUF file that you have. "
        "It is then called local:NAME, and needs no key.",
        "pull MODEL [--gguf FILE] [FLAGS]",
        ("bayesflow-mcp pull smollm2", "bayesflow-mcp pull smollm2 --json"),
    ),
    "doctor": Lesson(
        "keep",
        "say what this machine gives: models, sandbox, database",
        "Tries what runs need: each model's key or weights, the sandbox, the database, the locked "
        "engine for unit tests. It calls no model.",
        "doctor [FLAGS]",
        ("bayesflow-mcp doctor", "bayesflow-mcp doctor --json"),
        ("1 something that every run needs does not work",),
    ),
}
