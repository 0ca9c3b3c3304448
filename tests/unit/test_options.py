"""The command line of the runtime verbs: what runc takes, in all its forms."""

import pytest

from toolkit.errors import Usage
from toolkit.runtime import help as help_text
from toolkit.runtime.argv import HelpWanted, WrongOption, parse_global, parse_verb, seconds
from toolkit.runtime.options import GLOBAL, OF_IMAGE, VERBS


def parsed(*argv):
    options, verb_at = parse_global(argv)
    options.program = "runc"
    parse_verb(options, argv, verb_at)
    return options


@pytest.mark.parametrize(
    "argv",
    [
        ("--root", "/r", "--log=/l", "--log-format", "json", "state", "c"),
        ("--root=/r", "--log", "/l", "--log-format=json", "state", "c"),
        ("-root", "/r", "-log=/l", "-log-format", "json", "state", "--", "c"),
    ],
)
def test_global_options_in_each_form(argv):
    options = parsed(*argv)
    assert (options.root, options.log, options.log_format, options.verb, options.id) == (
        "/r",
        "/l",
        "json",
        "state",
        "c",
    )
    assert options.given == {"root", "log", "log-format"}


def test_what_containerd_sends():
    options = parsed(
        "--root", "/run/x", "--log", "/l", "--log-format", "json",
        "create", "--bundle", "/b", "--pid-file", "/p", "--console-socket", "/s", "--no-pivot", "--no-new-keyring",
        "id",
    )  # fmt: skip
    assert options.bundle == "/b" and options.pid_file == "/p" and options.console_socket == "/s"
    assert options.no_pivot and options.no_new_keyring and not options.debug
    assert options.preserve_fds == 0


def test_options_may_follow_the_id():
    assert parsed("kill", "c", "--all", "9").all
    assert parsed("kill", "c", "--all", "9").args == ["9"]
    assert parsed("delete", "c", "-f").force
    assert parsed("kill", "c", "-9").args == ["-9"]


def test_words_after_the_id_of_exec_belong_to_the_process():
    options = parsed("exec", "-t", "-e", "A=1", "--env=B=2", "-u", "1:2", "c", "ls", "-l", "--all", "--", "x")
    assert options.tty and options.env == ["A=1", "B=2"] and options.user == "1:2"
    assert options.args == ["ls", "-l", "--all", "--", "x"]
    assert parsed("exec", "c", "--", "ls", "--", "x").args == ["ls", "--", "x"]
    assert parsed("ps", "c", "-o", "pid").args == ["-o", "pid"]


def test_lists_do_not_leak_from_call_to_call():
    assert parsed("exec", "-g", "1", "-g", "2", "c", "x").additional_gids == [1, 2]
    assert parsed("exec", "c", "x").additional_gids == []


@pytest.mark.parametrize(("text", "value"), [("true", True), ("1", True), ("F", False), ("false", False)])
def test_a_flag_may_have_a_value(text, value):
    assert parsed("run", f"--keep={text}", "c").keep is value


def test_a_flag_that_was_given_is_known():
    assert "no-new-privs" in parsed("exec", "--no-new-privs=false", "c", "x").given
    assert "no-new-privs" not in parsed("exec", "c", "x").given


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (("state",), 'runc: "state" requires exactly 1 argument(s)'),
        (("state", "a", "b"), 'runc: "state" requires exactly 1 argument(s)'),
        (("kill",), 'runc: "kill" requires a minimum of 1 argument(s)'),
        (("kill", "a", "b", "c"), 'runc: "kill" requires a maximum of 2 argument(s)'),
        (("list", "x"), 'runc: "list" requires exactly 0 argument(s)'),
        (("state", "--nope", "a"), "flag provided but not defined: -nope"),
        (("run", "--bundle"), "flag needs an argument: -bundle"),
        (("run", "--preserve-fds", "1_0", "a"), 'invalid value "1_0" for flag -preserve-fds: parse error'),
        (("run", "--preserve-fds=١", "a"), 'invalid value "١" for flag -preserve-fds: parse error'),
        (("run", "--keep=yes", "a"), 'invalid boolean value "yes" for -keep: parse error'),
        (("events", "--interval", "5", "a"), 'invalid value "5" for flag -interval: parse error'),
    ],
)
def test_wrong_usage_in_runcs_words(argv, said):
    with pytest.raises(WrongOption) as caught:
        parsed(*argv)
    assert str(caught.value) == said
    assert isinstance(caught.value, Usage)


@pytest.mark.parametrize("word", ["--help", "-h", "-help"])
@pytest.mark.parametrize("verb", sorted(VERBS))
def test_every_verb_has_help(verb, word):
    with pytest.raises(HelpWanted) as caught:
        parsed(verb, word)
    assert caught.value.verb == verb


@pytest.mark.parametrize(
    ("text", "value"),
    [("5s", 5.0), ("100ms", 0.1), ("1m30s", 90.0), ("1.5h", 5400.0), ("0", 0.0), ("-2s", -2.0), ("1h0m0.5s", 3600.5)],
)
def test_durations_as_go_writes_them(text, value):
    assert seconds(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "5", "s", "1x", "1s2", "..s"])
def test_other_durations_are_refused(text):
    with pytest.raises(ValueError):
        seconds(text)


def test_the_table_is_sound():
    for table in (GLOBAL, *(verb[5] for verb in VERBS.values())):
        names = [option[0] for option in table] + [option[1] for option in table if option[1]]
        assert len(names) == len(set(names))
        for _name, _short, kind, default, metavar, text in table:
            assert kind in ("flag", "value", "int", "list", "ints", "duration")
            assert (metavar == "") == (kind == "flag")
            assert text and isinstance(
                default, {"flag": bool, "value": str, "int": int, "duration": float}.get(kind, tuple)
            )


# Every option of runc 1.4's verbs; a new runc's are added here first.
RUNC = {
    "": "--debug --log --log-format --root --systemd-cgroup --rootless --criu",
    "checkpoint": "--image-path --work-path --parent-path --leave-running --tcp-established --tcp-skip-in-flight "
    "--link-remap --ext-unix-sk --shell-job --lazy-pages --status-fd --page-server --file-locks --pre-dump "
    "--manage-cgroups-mode --empty-ns --auto-dedup",
    "create": "--bundle -b --console-socket --pidfd-socket --pid-file --no-pivot --no-new-keyring --preserve-fds",
    "delete": "--force -f",
    "events": "--interval --stats",
    "exec": "--console-socket --pidfd-socket --cwd --env -e --tty -t --user -u --additional-gids -g --process -p "
    "--detach -d --pid-file --process-label --apparmor --no-new-privs --cap -c --preserve-fds --cgroup --ignore-paused",
    "kill": "--all -a",
    "list": "--format -f --quiet -q",
    "ps": "--format -f",
    "restore": "--console-socket --image-path --work-path --tcp-established --ext-unix-sk --shell-job --file-locks "
    "--manage-cgroups-mode --bundle -b --detach -d --pid-file --no-subreaper --no-pivot --empty-ns --auto-dedup "
    "--lazy-pages --lsm-profile --lsm-mount-context",
    "run": "--bundle -b --console-socket --pidfd-socket --detach -d --keep --pid-file --no-subreaper --no-pivot "
    "--no-new-keyring --preserve-fds",
    "spec": "--bundle -b --rootless",
    "update": "--resources -r --blkio-weight --cpu-period --cpu-quota --cpu-burst --cpu-share --cpu-rt-period "
    "--cpu-rt-runtime --cpuset-cpus --cpuset-mems --kernel-memory --kernel-memory-tcp --memory --cpu-idle "
    "--memory-reservation --memory-swap --pids-limit --l3-cache-schema --mem-bw-schema",
    "features": "", "pause": "", "resume": "", "start": "", "state": "",
}  # fmt: skip


@pytest.mark.parametrize("verb", sorted(RUNC))
def test_all_that_runc_takes_is_taken(verb):
    table = VERBS[verb][5] if verb else GLOBAL
    names = {"--" + option[0] for option in table} | {"-" + option[1] for option in table if option[1]}
    assert set(RUNC[verb].split()) <= names
    assert set(RUNC) - {""} == set(VERBS)


@pytest.mark.parametrize(
    ("argv", "hint"),
    [
        (("exec", "-it", "c", "sh"), "-t alone gives a terminal"),
        (("run", "c", "sleep", "3"), "ctk run <container-id>; the command is in config.json"),
        (("run", "--bundel", "x", "c"), "did you mean --bundle? see ctk run --help"),
        (("list", "-aq"), "see ctk list --help"),
        (("exec", "-td", "c", "sh"), "one at a time: -t -d; see"),
        (("state",), "ctk state <container-id>; see ctk state --help"),
        (("list", "x"), "ctk list (no arguments); see"),
        (("--rot", "x", "list"), "did you mean --root? see ctk --help"),
        (("events", "--interval", "5", "a"), "see ctk events --help"),
    ],
)
def test_a_person_is_told_what_was_meant(argv, hint):
    with pytest.raises(WrongOption) as caught:
        parsed(*argv)
    assert hint in help_text.advice(caught.value, "ctk")


def test_run_takes_an_image_with_the_options_of_up():
    from dataclasses import fields

    from toolkit.cli.images.base_options import BaseOptions, ImageOptions

    assert {one.name.replace("_", "-") for one in fields(ImageOptions)} == set(OF_IMAGE)
    assert {one.name for one in fields(ImageOptions)} - {one.name for one in fields(BaseOptions)} == {"platform"}
