"""A configuration is read strictly; every mistake is named with its place and a way out."""

import json
import pickle
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.config.load import (
    DEFAULT_CONFIG,
    InvalidConfigError,
    load_config,
    parse_config,
)
from fleet.config.schema import (
    AcceleratorConfig,
    EmbeddedRedis,
    ExternalRedis,
    FleetConfig,
    config_schema,
    parse_size,
)
from fleet.errors import ConfigError, ExitCode
from models.document import Problem


def problems(text):
    with pytest.raises(InvalidConfigError) as caught:
        parse_config(text, "lab.yaml")
    return [str(problem) for problem in caught.value.problems]


def test_a_bare_fleet_up_is_a_configuration_too():
    config = load_config()
    assert config == load_config(DEFAULT_CONFIG)
    assert [(stream.id, stream.url) for stream in config.streams] == [("sample", "sample:")]
    assert config.redis == EmbeddedRedis(embedded=True, port=0, max_memory_mb=256)
    assert config.model == "posenet-mobilenet-075"
    assert config.accelerators == "auto"
    assert config.ray.object_store_mb == 75


def test_every_value_arrives():
    config = parse_config(
        """
        version: 1
        redis: {url: rediss://user:secret@host:6380/2, ca_file: ca.pem, namespace: lab}
        model: posenet-mobilenet-075
        size: 353x257
        accelerators:
          - {kind: cpu, device: CPU, precision: f32, lanes: 2}
          - kind: emulated
        streams:
          - {id: door, url: "rtsp://h/1", fps: 15, model: posenet-mobilenet-075}
          - {id: hall.2, url: hall.mp4}
        ray: {cpus: 3, object_store_mb: 100}
        """,
        "lab.yaml",
    )
    assert isinstance(config.redis, ExternalRedis)
    assert config.redis.url == "rediss://user:secret@host:6380/2"
    assert (config.redis.ca_file, config.redis.namespace) == (str(Path("ca.pem").absolute()), "lab")
    assert config.size == (353, 257)
    assert config.accelerators == (
        AcceleratorConfig(kind="cpu", device="CPU", precision="f32", lanes=2),
        AcceleratorConfig(kind="emulated"),
    )
    assert [(s.id, s.fps, s.model) for s in config.streams] == [
        ("door", 15.0, "posenet-mobilenet-075"),
        ("hall.2", None, None),
    ]
    assert (config.ray.cpus, config.ray.object_store_mb) == (3, 100)


def test_a_configuration_is_frozen_and_travels_between_processes():
    config = load_config()
    with pytest.raises(ValueError, match="frozen"):
        config.model = "other"
    assert pickle.loads(pickle.dumps(config)) == config


def test_secrets_are_not_in_the_repr():
    config = parse_config(
        "version: 1\nredis: {url: 'redis://:hunter2@h'}\nstreams: [{id: a, url: 'rtsp://u:hunter2@h'}]",
        "lab.yaml",
    )
    assert "hunter2" not in repr(config)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("version: 1\nmodle: x\n", "lab.yaml:2:1: unknown key `modle`; did you mean `model`?"),
        (
            "version: 1\nzzz: x\n",
            "lab.yaml:2:1: unknown key `zzz`; allowed: accelerators, model, ray, redis, size, "
            "streams, version",
        ),
        (
            "model: posenet-mobilenet-075\n",
            "lab.yaml:1:1: `version` is missing; add `version: ...`",
        ),
        ("version: 2\n", "lab.yaml:1:10: version: `2` is not a possible value; allowed: 1"),
        (
            "version: '1'\n",
            "lab.yaml:1:10: version: must be 1, not a text; remove the quotes",
        ),
        (
            "version: 1\nredis:\n  prot: 1\n",
            "lab.yaml:3:3: redis: unknown key `prot`; did you mean `port`?",
        ),
        (
            "version: 1\nredis: {url: 'redis://h', port: 1}\n",
            "lab.yaml:2:27: redis: unknown key `port`; allowed: ca_file, namespace, url",
        ),
        (
            "version: 1\nredis: {embedded: false}\n",
            "lab.yaml:2:19: redis.embedded: `false` is not a possible value; allowed: true",
        ),
        (
            "version: 1\nredis:\n  port: 70000\n",
            "lab.yaml:3:9: redis.port: must be at most 65535, not 70000; change the value",
        ),
        (
            "version: 1\nredis:\n  port: '6379'\n",
            "lab.yaml:3:9: redis.port: must be a whole number; write digits only, without quotes",
        ),
        (
            "version: 1\nredis:\n  url: http://h\n",
            "lab.yaml:3:8: redis.url: must be redis://HOST..., or rediss://HOST... for TLS",
        ),
        (
            "version: 1\nredis: {url: 'redis://h', ca_file: x}\n",
            "lab.yaml:2:8: redis: ca_file needs a rediss:// url; without TLS it would do nothing",
        ),
        (
            "version: 1\nredis: embedded\n",
            "lab.yaml:2:8: redis: must hold keys of its own; write them indented below it",
        ),
        (
            "version: 1\nsize: 640\n",
            "lab.yaml:2:7: size: must be WIDTHxHEIGHT in pixels, for example 257x257, not '640'",
        ),
        (
            "version: 1\naccelerators:\n  - kind: cup\n",
            "lab.yaml:3:11: accelerators[0].kind: `cup` is not a possible value; "
            "did you mean `cpu`?",
        ),
        (
            "version: 1\naccelerators:\n  - kind: cpu\n    presicion: f32\n",
            "lab.yaml:4:5: accelerators[0]: unknown key `presicion`; did you mean `precision`?",
        ),
        (
            "version: 1\naccelerators: []\n",
            "lab.yaml:2:15: accelerators: an empty list leaves nothing to run on; "
            "write auto to use what is there",
        ),
        (
            "version: 1\naccelerators: all\n",
            "lab.yaml:2:15: accelerators: `all` is not a possible value; allowed: auto",
        ),
        (
            "version: 1\nstreams:\n  - id: a\n",
            "lab.yaml:3:5: streams[0]: `url` is missing; add `url: ...`",
        ),
        (
            "version: 1\nstreams:\n  - id: 7\n    url: x\n",
            "lab.yaml:3:9: streams[0].id: must be a text; put the value in quotes",
        ),
        (
            "version: 1\nstreams:\n  - id: a b\n    url: x\n",
            "lab.yaml:3:9: streams[0].id: may hold letters, digits, '_', '.' and '-', at most 64, "
            "the first a letter or digit; choose another name",
        ),
        (
            "version: 1\nstreams:\n  - {id: a, url: x, fps: 0}\n",
            "lab.yaml:3:26: streams[0].fps: must be greater than 0, not 0; change the value",
        ),
        (
            "version: 1\nstreams:\n  - {id: a, url: x, fps: .inf}\n",
            "lab.yaml:3:26: streams[0].fps: must be a finite number; "
            "leave the key out for no limit",
        ),
        (
            "version: 1\nstreams: {id: a, url: x}\n",
            "lab.yaml:2:10: streams: must be a list; start each item on its own line with '- '",
        ),
        (
            "version: 1\nstreams:\n",
            "lab.yaml:2:9: streams: has no value; give it one, or remove the key",
        ),
        (
            "version: 1\nstreams:\n  - {id: a, url: x}\n  - {id: a, url: y}\n",
            "lab.yaml:4:10: streams[1].id: the id `a` is already used in line 3; "
            "give each stream an id of its own",
        ),
        (
            "version: 1\nmodel: posenet-mobilnet-075\n",
            "lab.yaml:2:8: model: no model is named 'posenet-mobilnet-075'; did you mean "
            "posenet-mobilenet-075 or posenet-mobilenet-050? "
            "A path to a manifest (.yaml) works too",
        ),
        (
            "version: 1\nsize: 640x480\n",
            "lab.yaml:2:7: size: posenet-mobilenet-075: the network does not take 640x480: "
            "sides are k * 16 + 1 pixels; nearest sizes: 625x465, 641x465, 625x481, 641x481",
        ),
        (
            "version: 1\nray: {object_store_mb: 10}\n",
            "lab.yaml:2:24: ray.object_store_mb: must be at least 75, not 10; change the value",
        ),
    ],
)
def test_a_mistake_is_named_with_its_place_and_a_way_out(text, expected):
    assert problems(text) == [expected]


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("version: 1\n\tmodel: x\n", "2:1", "indent with spaces"),
        ("version: 1\nmodel: a: b\n", "2:9", "in quotes"),
        ("version: [1\n", "2:1", "not valid YAML"),
        ("version: 1\n---\nversion: 1\n", "2:1", "one document"),
        ("version: 1\nversion: 1\n", "2:1", "already set in line 1; remove one of them"),
        ("version: 1\nray: &a {cpus: 1}\nredis: *a\n", "2:6", "anchors and aliases"),
        ("version: 1\nray: &a [*a]\n", "2:6", "anchors and aliases"),
        ("version: 1\nmodel: !!python/name:os.system x\n", "2:8", "tag"),
        ("version: !!int x\n", "1:10", "`x` does not fit its tag"),
        ("version: !!int\n", "1:10", "does not fit its tag"),
        ("version: 1\n? [a]\n: 1\n", "2:3", "a key must be a text"),
        ("version: 1\nmodel: \x07\n", "2:8", "remove the character"),
        ("", "1:1", "start with `version: 1`"),
        ("- 1\n", "1:1", "start with `version: 1`"),
    ],
)
def test_what_is_not_our_yaml_is_refused_where_it_stands(text, place, words):
    found = problems(text)
    assert any(line.startswith(f"lab.yaml:{place}:") and words in line for line in found), found


def test_all_errors_come_at_once_in_the_order_of_the_file():
    text = "version: 1\nray: {cpu: 2}\nstreams:\n  - {id: x, fps: -1}\nzzz: 1\n"
    with pytest.raises(ConfigError) as caught:
        parse_config(text, "lab.yaml")
    assert caught.value.exit_code == ExitCode.INPUT
    assert caught.value.hint
    lines = str(caught.value).splitlines()
    assert lines[0] == "lab.yaml has 4 errors:"
    assert [line.strip().split(" ")[0] for line in lines[1:]] == [
        "lab.yaml:2:7:", "lab.yaml:4:5:", "lab.yaml:4:18:", "lab.yaml:5:1:",
    ]  # fmt: skip


def test_urls_take_secrets_from_the_environment(monkeypatch):
    monkeypatch.setenv("DOOR", "s3cret")
    config = parse_config(
        "version: 1\nredis: {url: 'redis://:${DOOR}@h'}\n"
        "streams: [{id: a, url: 'rtsp://u:${DOOR}@h/${DOOR}'}]\n",
        "lab.yaml",
    )
    assert isinstance(config.redis, ExternalRedis)
    assert config.redis.url == "redis://:s3cret@h"
    assert config.streams[0].url == "rtsp://u:s3cret@h/s3cret"


def test_a_variable_that_is_not_set_is_an_error(monkeypatch):
    monkeypatch.delenv("DOOR", raising=False)
    assert problems("version: 1\nstreams: [{id: a, url: 'rtsp://u:${DOOR}@h'}]\n") == [
        "lab.yaml:2:24: streams[0].url: environment variable DOOR is not set; "
        "export DOOR=..., or write the value into the URL"
    ]


def test_variables_work_in_urls_only(monkeypatch):
    monkeypatch.setenv("DOOR", "posenet-mobilenet-075")
    assert "no model is named '${DOOR}'" in problems("version: 1\nmodel: ${DOOR}\n")[0]


def test_errors_do_not_show_secrets(monkeypatch):
    monkeypatch.setenv("DOOR", "s3cret")
    found = problems("version: 1\nredis: {url: '${DOOR}', zzz: s3cret}\nstreams: [{url: s3cret}]\n")
    assert "s3cret" not in str(found)


def test_a_file_that_cannot_be_read(tmp_path):
    for path, words in ((tmp_path / "none.yaml", "no configuration file"), (tmp_path, "directory")):
        with pytest.raises(ConfigError, match=words) as caught:
            load_config(path)
        assert str(path) in str(caught.value)
        assert caught.value.hint
    latin = tmp_path / "latin.yaml"
    latin.write_bytes(b"version: 1\nmodel: caf\xe9\n")
    with pytest.raises(InvalidConfigError, match=r"latin\.yaml:2:11: not UTF-8"):
        load_config(latin)


def test_a_byte_order_mark_is_no_error(tmp_path):
    path = tmp_path / "bom.yaml"
    path.write_bytes(b"\xef\xbb\xbfversion: 1\n")
    assert load_config(path) == FleetConfig(version=1)


@given(st.text(alphabet="version: 1[]{}&*!-?|>'\"#,ab\n\t\\%", max_size=60))
def test_any_text_gives_a_configuration_or_a_list_of_problems(text):
    problems: tuple[Problem, ...] | None = None
    try:
        parse_config(text, "any.yaml")
    except InvalidConfigError as error:
        problems = error.problems
    if problems is not None:
        assert problems
        assert all(problem.line >= 1 and problem.column >= 1 for problem in problems)


def test_sizes():
    assert parse_size("353x257") == (353, 257)
    for text in ("", "353", "0x5", "-1x5", "1x2x3", "353X257", "1e9x1", "353x", " 1x1", "٣x٣"):
        with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
            parse_size(text)


def test_the_schema_describes_every_key():
    schema = config_schema()
    json.dumps(schema)
    assert schema["required"] == ["version"]
    assert set(schema["properties"]) == set(FleetConfig.model_fields)
    sections = [schema, *schema["$defs"].values()]
    described = [value for section in sections for value in section["properties"].values()]
    assert all(value.get("description") for value in described)
    assert all(section["additionalProperties"] is False for section in sections)
