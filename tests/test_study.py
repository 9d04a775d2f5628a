"""The scoreboard: rows are whole, runs are not repeated, the table says what the rows say."""

import numpy as np
import pytest

from lsseg_edu import study, survey
from lsseg_edu.study.__main__ import main
from lsseg_edu.study.results import COLUMNS
from lsseg_edu.train import Budget, Supervised


def row(method="supervised", seed=0, dice=0.5, **other):
    values = dict.fromkeys(COLUMNS, "") | {
        "method": method, "protocol": "cardiac-3", "seed": seed, "dice": dice, "labelled": 3,
        "dice_per_class": "0.1 0.2", "hd95": 4.0, "seconds": 1.0, "steps": 2,
    }  # fmt: skip
    return values | other


def test_appended_rows_come_back(tmp_path):
    path = tmp_path / "results.csv"
    study.append(path, row(dice=0.25))
    study.append(path, row(seed=1))
    first, second = study.read(path)
    assert first["dice"] == 0.25 and first["dice_per_class"] == [0.1, 0.2] and second["seed"] == 1
    assert study.read(tmp_path / "absent.csv") == []


def test_a_torn_line_loses_only_itself(tmp_path):
    path = tmp_path / "results.csv"
    study.append(path, row())
    path.write_text(path.read_text() + "mean-teacher,,cardiac-3,car")
    study.append(path, row(seed=1))
    assert [r["seed"] for r in study.read(path)] == [0, 1]


def test_a_row_with_a_missing_column_is_refused(tmp_path):
    with pytest.raises(ValueError, match="has the columns"):
        study.append(tmp_path / "results.csv", {"method": "supervised"})


def test_table_means_differences_and_gap():
    results = [row("supervised", s, d) for s, d in enumerate([0.50, 0.60, 0.70])]
    results += [row("full-labels", s, d) for s, d in enumerate([0.80, 0.80, 0.80])]
    results += [row("mean-teacher", s, d) for s, d in enumerate([0.56, 0.65, 0.77])]
    lines = {line.method: line for line in study.summary(results, "cardiac-3")}
    mine = lines["mean-teacher"]
    assert mine.dice.mean == pytest.approx(0.66)
    assert mine.difference.mean == pytest.approx(0.06)  # paired: far tighter than the spread
    assert mine.difference.low > 0 and mine.verdict == "better"
    assert mine.closed == pytest.approx(0.06 / 0.2)
    assert study.gap(results, "cardiac-3") == pytest.approx(0.2)
    assert lines["supervised"].verdict == "baseline"
    assert [line.method for line in study.summary(results, "cardiac-3")][0] == "full-labels"


def test_arms_can_be_compared_by_another_column():
    """Here the better Dice has the worse count of objects; the last row has no count at all."""
    scores = {"supervised": (0.5, 0.2), "full-labels": (0.9, 0.6), "mean-teacher": (0.4, 0.3)}
    results = [row(m, s, d, f1=f + s / 100) for s in (0, 1) for m, (d, f) in scores.items()]
    results.append(row("pseudo-label", f1=float("nan")))
    lines = study.summary(results, "cardiac-3", column="f1")
    assert [line.method for line in lines] == ["full-labels", "mean-teacher", "supervised"]
    mine = lines[1]
    assert mine.score.mean == pytest.approx(0.305) and mine.dice.mean == pytest.approx(0.4)
    assert mine.difference.mean == pytest.approx(0.1) and mine.verdict == "better"
    assert mine.closed == pytest.approx(0.25)
    dice = study.summary(results, "cardiac-3")
    assert [line.score.mean for line in dice] == pytest.approx([0.9, 0.5, 0.5, 0.4])
    with pytest.raises(ValueError, match="not by 'hd95': compare two of them"):
        study.summary(results, "cardiac-3", column="hd95")


def test_one_seed_decides_nothing():
    results = [row("supervised"), row("mean-teacher", dice=0.9)]
    line = next(x for x in study.summary(results, "cardiac-3") if x.method == "mean-teacher")
    assert line.verdict == "undecided" and np.isinf(line.difference.high)


def test_difference_pairs_the_seeds_in_any_column(tmp_path):
    path = tmp_path / "results.csv"
    for seed, (a, b) in enumerate([(0.5, 0.2), (0.7, 0.3)]):
        study.append(path, row(seed=seed, implausible=a))
        study.append(path, row("mean-teacher", seed, options="weight=0", implausible=b))
    study.append(path, row("mean-teacher", 2, options="weight=0", implausible=0.9))  # unpaired
    study.append(path, row(seed=3))
    results = study.read(path)
    mine = study.difference(
        results, "cardiac-3", "mean-teacher:weight=0", "supervised", "implausible"
    )
    assert mine.mean == pytest.approx(-0.35) and mine.low < -0.4 < -0.3 < mine.high
    pairs = study.paired(results, "cardiac-3", "supervised", "mean-teacher:weight=0", "implausible")
    assert pairs == pytest.approx([0.3, 0.4])  # in the order of the seeds
    with pytest.raises(ValueError, match="No seed of 'cardiac-3' has the betti of both"):
        study.difference(results, "cardiac-3", "mean-teacher:weight=0", "supervised", "betti")


def test_run_fills_the_file_and_skips_what_is_there(tmp_path):
    path, tiny = tmp_path / "results.csv", Budget("smoke", 1, batch=2)
    pairs = [("supervised", "cardiac-3"), ("mean-teacher:weight=0", "cardiac-3")]
    new = study.run(pairs, 1, path, budget=tiny)
    assert len(new) == 2 and {r["labelled"] for r in study.read(path)} == {3}
    assert study.run(pairs, 1, path, budget=tiny) == []
    full = study.run([("full-labels", "cardiac-3")], 1, path, budget=tiny)
    assert full[0]["labelled"] == 70
    second = study.read(path)[1]
    assert second["options"] == "weight=0"
    assert 0 <= second["implausible"] <= 1 and second["betti"] > 0 and 0 <= second["ece"] <= 1


def test_protocols_give_the_supervision_they_name():
    few = study.protocol("cardiac-3")
    assert len(few.task(0).train.subjects[few.task(0).labelled].unique()) == 3
    assert few.task(0).labelled.shape != few.upper(0).labelled.shape
    noisy = study.protocol("cardiac-boundary")
    clean = noisy.upper(0)
    assert (noisy.task(0).labelled == clean.labelled).all()
    assert (noisy.task(0).train.labels != clean.train.labels).any()


def test_every_recipe_of_the_survey_trains_on_its_kind_of_object(monkeypatch):
    task, tiny = study.protocol("cardiac-3").task(0), Budget("smoke", 1, batch=2)
    loss = study.train_method("dice-loss", task, tiny, 0).method
    net = study.train_method("fcn", task, tiny, 0).method
    assert isinstance(loss, Supervised) and loss.criterion.__name__ == "dice"
    assert type(net.net).__name__ == "FCN"
    planned = survey.find("fcn")._replace(object="")
    monkeypatch.setattr(survey, "find", lambda id: planned)
    with pytest.raises(ValueError, match="not in the library yet"):
        study.train_method("fcn", task, tiny, 0)


def test_unknown_names_are_one_sentence(capsys):
    with pytest.raises(ValueError, match="Unknown protocol 'mars': choose one of cardiac-3"):
        study.protocol("mars")
    with pytest.raises(ValueError, match="did you mean mean-teacher"):
        survey.find("mean-techer")
    with pytest.raises(SystemExit):
        main(["run", "--methods", "mean-techer"])
    assert "did you mean mean-teacher" in capsys.readouterr().err


def test_command_line_prints_a_table(tmp_path, capsys):
    path = tmp_path / "results.csv"
    for seed, dice in enumerate([0.5, 0.6]):
        study.append(path, row("supervised", seed, dice))
    main(["table", "--results", str(path), "--protocols", "cardiac-3"])
    assert "supervised" in (out := capsys.readouterr().out) and "0.550" in out
