"""Recipes: the shipped ones load, mistakes are named before any work, overrides reach every key."""

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

import euds
from euds.engine.execution import Execution
from euds.engine.generations_config import SampleSettings
from euds.engine.label_words_config import LabelWordSettings
from euds.errors import EudsError, InputError, InvalidType
from euds.pipeline.data import RunData
from euds.pipeline.demo import SENTIMENT
from euds.pipeline.recipe import load_recipe, method_list, selected_method
from euds.pipeline.run import _score
from euds.selection.rules import FIXED_AXES

EXAMPLES = Path(__file__).parents[1] / "examples"
MINIMAL: dict[str, Any] = {
    "out": "run",
    "data": {"train": "a.jsonl", "test": "b.jsonl"},
    "score": {"lm": "lm", "embedder": "encoder"},
    "select": {"keep": 0.16},
    "train": {"model": "encoder"},
}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_example_loads_with_all_baselines(path: Path) -> None:
    recipe = load_recipe(path)
    names = [method.name for method in method_list(recipe)]
    assert names[:6] == ["full", "random", "information", "generative", "semantic", "igse"]


def test_the_demo_is_the_sentiment_example() -> None:
    assert yaml.safe_load((EXAMPLES / "sentiment.yaml").read_text()) == SENTIMENT


def test_defaults_depend_on_the_task() -> None:
    recipe = load_recipe({**MINIMAL, "task": "question_answering"})
    assert recipe.settled_task.text_fields == ("question", "context")
    assert recipe.settled_task.label_field == "answers"
    assert load_recipe(MINIMAL).settled_task.text_fields == ("text",)
    assert load_recipe(MINIMAL).seed_list == (0, 1)


def test_a_tilde_is_the_home_folder_where_no_shell_has_seen_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    data = {"train": "~/pool.jsonl", "test": "a~b.jsonl"}
    recipe = load_recipe({**MINIMAL, "data": data}, ["out=~/runs/a"])
    assert (recipe.out, recipe.data.train) == ("/home/somebody/runs/a", "/home/somebody/pool.jsonl")
    assert recipe.data.test == "a~b.jsonl"
    assert load_recipe(MINIMAL, ["out=~nobody-of-this-name/a"]).out == "~nobody-of-this-name/a"


def test_overrides_reach_inner_keys_and_are_typed() -> None:
    recipe = load_recipe(
        MINIMAL, ["select.keep=500", "seeds=[3, 5]", "data.limit=20", "select.methods=[full, nll]", "train.steps=7"]
    )
    assert recipe.select.keep == 500
    assert isinstance(recipe.select.keep, int)
    assert recipe.seed_list == (3, 5)
    assert [(method.name, method.rule, method.axes) for method in method_list(recipe)] == [
        ("full", None, ()),
        ("nll", "middle", ("nll",)),
    ]
    assert "limit" not in MINIMAL["data"]
    for overrides, epochs, steps in (("", 3.0, None), ("epochs=5", 5, None), ("epochs=null steps=7", None, 7)):
        train = load_recipe(MINIMAL, [f"train.{override}" for override in overrides.split()]).train
        config = train.config(epochs=train.epochs, steps=train.steps)
        assert (config.epochs, config.steps) == (epochs, steps)


def test_numbers_with_an_exponent_are_numbers(tmp_path: Path) -> None:
    text = yaml.safe_dump(MINIMAL).replace("model: encoder", "model: encoder\n  learning_rate: 2e-4")
    (tmp_path / "recipe.yaml").write_text(text)
    assert load_recipe(tmp_path / "recipe.yaml").train.learning_rate == 2e-4
    for text in ("2e-4", "2E-4", ".2e-3", "2.e-4", "0.2e-3", "+2e-4", "2.0e-4"):
        assert load_recipe(MINIMAL, [f"train.learning_rate={text}"]).train.learning_rate == 2e-4, text
    # Whole numbers, words and what only begins like a number stay what they are.
    recipe = load_recipe(MINIMAL, ["select.keep=500", "data.train=2e-4.jsonl", "out=e5"])
    assert (recipe.select.keep, recipe.data.train, recipe.out) == (500, "2e-4.jsonl", "e5")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("score.lmm=x", r"unknown key 'score.lmm' \(did you mean 'lm'\?\)"),
        ("selct={}", r"unknown key 'selct' \(did you mean 'select'\?\)"),
        ("train.epoch=1", r"did you mean 'epochs'"),
        ("select.methods=[{name: a, rule: low, axs: [nll]}]", r"unknown key 'select.methods.0.axs' .*'axes'"),
        ("select.keep=1.5", r"select.keep: give a fraction in \(0, 1\] or a count"),
        ("select.keep=0", r"select.keep: give a fraction"),
        ("select.keep=some", r"select.keep: input should be a valid number or a valid integer or 'auto', got 'some'"),
        ("select.methods=[igs]", r"select.methods: unknown value 'igs' \(did you mean 'igse'\?\)"),
        ("select.methods=[]", r"select.methods: name at least one"),
        ("select.methods=[full, full]", r"none twice"),
        ("select.methods=[{name: a, rule: box}]", r"select.methods: a: axes: rule 'box' looks at one to three"),
        ("select.methods=[{name: a, rule: igse, keep: 2.0}]", r"select.methods: a: keep: give a fraction .*, got 2.0"),
        ("select.methods=[{name: a, rule: igs}]", r"select.methods: a: rule: unknown value 'igs'"),
        ("select={keep: 0.1, methods: [{name: a, rule: igse, keep: auto}], margin: 2.0}", r"select.margin: "),
        ("select.margin=-1", r"select.margin: "),
        ("select.margin=0.005", r"recipe: select.margin: is of keep 'auto'; leave it out"),
        ("select.methods=full", r"select.methods: input should be a list, such as \[a, b\], got 'full'"),
        ("select.methods=[{name: a, rule: low, axes: [nl]}]", r"unknown score 'nl' \(did you mean 'nll'\?\)"),
        ("select.interval=centre", r"interval: unknown value 'centre'"),
        ("score.measures=[information]", r"score.measures lacks generative"),
        ("score.measures=[infomation]", r"score.measures: unknown value 'infomation' \(did you mean 'information'\?\)"),
        ("score={measures: [semantc], semantic: [samples]}", r"score.measures: unknown value .* 'semantic'\?\)"),
        ("score.semantic=[cluster]", r"score.semantic: unknown value 'cluster' \(did you mean 'clusters'\?\)"),
        ("score.samples={top_p: 0.5}", r"score.samples: settings of generations need samples among score.semantic"),
        ("score={lm: a, embedder: b, semantic: [samples], samples: {top_p: 2.0}}", r"score.samples.top_p: must be"),
        ("score={lm: a, embedder: b, semantic: [samples], samples: {topp: 0.5}}", r"samples.topp' .*'top_p'"),
        ("score={embedder: b, measures: [semantic], semantic: [samples]}", r"score.lm: sampling generations needs"),
        ("select.methods=[samples_discrete]", r"score.semantic does not estimate it"),
        ("select.methods=[label_words]", r"score.semantic does not estimate it"),
        ("score.label_words={labels: [a, b]}", r"score.label_words: settings of label words need label_words among"),
        ("score={lm: a, embedder: b, semantic: [label_words]}", r"score.label_words.labels: give the label words"),
        ("score={lm: a, semantic: [label_words], label_words: {label: [a]}}", r"label_words.label' .*'labels'"),
        ("score={measures: [semantic], semantic: [label_words], label_words: {labels: [a, b]}}", r"score.lm: label w"),
        ("score={measures: [generative]}", r"recipe: score.lm: generative entropy needs a causal language model"),
        ("score={lm: a}", r"recipe: score.embedder: semantic entropy needs an encoder"),
        ("score.measures=[]", r"recipe: score.measures: name at least one"),
        ("score.max_tokens=1", r"recipe: score.max_tokens: generative entropy needs at least 2"),
        ("data.text_field=[a, b, c]", r"recipe: data.text_field: give one field, or two"),
        ("data.text_field=[]", r"recipe: data.text_field: give one field, or two for pairs; got 0"),
        ("data.text_field=''", r"recipe: data.text_field: a name is empty; name a field, or leave text_field out"),
        ("data.text_field=[a, '']", r"recipe: data.text_field: a name is empty"),
        ("data.label_field=''", r"recipe: data.label_field: a name is empty"),
        ("data.source_field=''", r"recipe: data.source_field: string should have at least 1 character, got ''"),
        ("score={lm: a, embedder: b, semantic: [samples]}", r"semantic looks at semantic, but score.semantic does not"),
        ("seeds=0", r"seeds: input should be greater than 0"),
        ("seeds=[1, 1]", r"seeds: give a number of seeds"),
        ("task=regression", r"task: input should be 'classification' or 'question_answering'"),
        ("train.epochs=-1", r"train.epochs: input should be greater than 0, got -1"),
        ("data=5", r"data: input should be keys and values, got 5"),
        ("nokey", r"write key=value"),
        ("data.train.x=1", r"train has no keys below it"),
        ("out=[", r"override 'out=\[': the value is not YAML: while parsing"),
        ("out=2026-02-30", r"override 'out=2026-02-30': the value is not YAML: day is out of range"),
    ],
)
def test_a_mistake_is_named_before_any_work(override: str, message: str) -> None:
    with pytest.raises(EudsError, match=message):
        load_recipe(MINIMAL, [override])


def test_a_missing_key_or_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(EudsError, match="key 'train' is missing"):
        load_recipe({key: value for key, value in MINIMAL.items() if key != "train"})
    with pytest.raises(InputError, match="cannot be read: No such file"):
        load_recipe(tmp_path / "none.yaml")
    for content, message in (
        ("a: [", "not YAML"),
        ("- a", "must hold keys"),
        ("a: !!python/object:x.y {}", "not YAML"),
        ("out: 2026-02-30", "r.yaml: not YAML: day is out of range"),
        ("[" * 3000, "not YAML"),
        ("data:\n  train: a\n  seed: 1\n  train: b", "not YAML: key 'train' stands twice .*, line 4, column 3"),
    ):
        (tmp_path / "r.yaml").write_text(content)
        with pytest.raises(InputError, match=message):
            load_recipe(tmp_path / "r.yaml")


def test_methods_that_use_labels_have_names_and_options() -> None:
    recipe = load_recipe(
        MINIMAL,
        [
            "select.keep=auto",
            "select.margin=0.02",
            "select.methods=[random, validated, {name: v, rule: validated, keep: 0.2, axes: [nll], bins: 16}, igse]",
        ],
    )
    methods = {method.name: method for method in method_list(recipe)}
    assert (methods["validated"].rule, methods["validated"].axes, methods["validated"].keep) == ("validated", (), None)
    assert (methods["v"].keep, methods["v"].axes, methods["v"].bins) == (0.2, ("nll",), 16)
    selected = selected_method(recipe)
    assert selected is not None
    assert selected.name == "igse"


def test_a_method_with_options_is_the_selection_like_one_by_its_name() -> None:
    for rule, axes in FIXED_AXES.items():
        recipe = load_recipe(MINIMAL, [f"select.methods=[information, {{name: last, rule: {rule}, group_by: source}}]"])
        selected = selected_method(recipe)
        assert selected is not None
        assert (selected.name, selected.axes) == (("last", axes) if axes else ("information", ("information",)))


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["select.keep=auto", "select.methods=[random]"], r"keep: 'auto' is found for the last method that looks at"),
        (["select.keep=auto", "select.methods=[igse, validated]"], r"keep: 'auto' needs a rule that does not search"),
        (["select.keep=auto", "select.methods=[{name: a, rule: igse, keep: 0.1}]"], r"no keep of its own"),
        (["select.keep=auto", "select.margin=0"], r"margin: must be above 0 and below 1"),
        (["select.methods=[{name: a, rule: validated, keep: auto}]"], r"keep: 'auto' needs a rule"),
        (["select.methods=[{name: a, rule: validated, group_by: label}]"], r"searches the whole pool"),
        (["select.methods=[{name: a, rule: igse, keep: 1.5}]"], r"keep: give a fraction"),
        (
            ["select.methods=[{name: a, rule: igse, bins: 0}]"],
            r"select.methods.0.bins: input should be greater than 0, got 0",
        ),
        (["task=question_answering", "select.methods=[validated]"], r"methods: validated: rule 'validated' and keep"),
        (
            ["task=question_answering", "select.methods=[{name: a, rule: igse, group_by: label}]"],
            r"methods: a: group_by 'label' needs labels; task question_answering has none",
        ),
        (["task=question_answering", "select.keep=auto"], r"task question_answering has none"),
        (["train.max_tokens=4"], r"train.max_tokens: must be at least 8"),
        (["train.epochs=.inf"], r"train.epochs"),
        (["train.epochs=5", "train.steps=10"], r"train.epochs, steps: give one of them; .*null in YAML"),
        (["seeds=[-1]"], r"seeds: must be in 0"),
        (["data.seed=-1"], r"data.seed"),
    ],
)
def test_what_labels_cannot_do_is_named_before_any_work(overrides: list[str], message: str) -> None:
    with pytest.raises(EudsError, match=message):
        load_recipe(MINIMAL, overrides)


def test_a_margin_goes_with_any_keep_that_is_auto() -> None:
    for select in ("{keep: auto, margin: 0.01}", "{keep: 0.1, margin: 0.01, methods: [{OWN}, igse]}"):
        select = select.replace("OWN", "name: a, rule: igse, keep: auto")
        assert load_recipe(MINIMAL, [f"select={select}"]).select.margin == 0.01


def test_generations_are_set_as_by_the_function() -> None:
    recipe = load_recipe(
        MINIMAL,
        [
            "score.semantic=[clusters, samples]",
            "score.samples={template: labels, labels: [good, bad], grouping: labels, n_generations: 5}",
            "select.methods=[full, samples_discrete]",
        ],
    )
    expected = SampleSettings(template="labels", labels=("good", "bad"), grouping="labels", n_generations=5)
    assert recipe.score.sample_settings == expected
    assert load_recipe(MINIMAL).score.sample_settings is None
    assert load_recipe(MINIMAL, ["score.semantic=[clusters, samples]"]).score.sample_settings == SampleSettings()
    assert [method.axes for method in method_list(recipe)] == [(), ("samples_discrete",)]


def test_scores_are_set_as_by_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {
        "tokenizer": "words",
        "n_clusters": 7,
        "n_neighbors": 3,
        "similarity_temperature": 0.2,
        "device": "cpu",
        "dtype": "bfloat16",
        "seed": 5,
        "cache": "scores",
        "cache_limit_gb": 2.5,
        "max_tokens": 99,
        "token_budget": 999,
        "shard_rows": 64,
        "lm": "a",
        "embedder": "b",
        "measures": ["information", "semantic"],
    }
    parameters = inspect.signature(euds.score).parameters
    assert given == {name: value for name, value in given.items() if value != parameters[name].default}
    recipe = load_recipe({**MINIMAL, "score": given, "select": {"keep": 0.1, "methods": ["semantic"]}})
    calls: list[dict[str, Any]] = []
    monkeypatch.setattr("euds.pipeline.run.score", lambda *_, **named: calls.append(named))
    _score(recipe, RunData(Path("pool.jsonl"), Path("test.jsonl"), {}))
    assert {name: calls[0][name] for name in given} == given
    # But for the fields, the rows and how the work is carried out, nothing is left out.
    elsewhere = {"inputs", "id_field", "workers", "ray", "ray_address", "split", "force_new"}
    assert parameters.keys() - calls[0].keys() == elsewhere


def test_label_words_are_settings_and_a_method() -> None:
    recipe = load_recipe(
        MINIMAL,
        [
            "score.semantic=[label_words]",
            "score.label_words={labels: [good, bad]}",
            "select.methods=[full, label_words]",
        ],
    )
    assert recipe.score.label_word_settings == LabelWordSettings(("good", "bad"))
    assert recipe.score.sample_settings is None
    assert [method.axes for method in method_list(recipe)] == [(), ("label_words",)]


@pytest.mark.parametrize("call", [lambda: euds.run(5), lambda: Execution(ray=True, ray_address=5)])  # type: ignore[arg-type]
def test_arguments_of_another_type_are_named(call: Callable[[], object]) -> None:
    with pytest.raises(InvalidType, match=r"(settings: must be a YAML file or a mapping|ray_address: .*), got int"):
        call()
