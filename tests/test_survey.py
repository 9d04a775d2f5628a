"""The map: every cell of survey.csv points at something that exists."""

import re
from pathlib import Path

import pytest

from lsseg_edu import study, survey

ROOT = Path(__file__).parent.parent
BUILT = [row for row in survey.rows() if row.built]
STAGE_A = {
    *("fcn", "segnet", "unet", "pspnet", "deeplab", "attention-unet", "densenet", "dice-loss"),
    *("backbone-vgg", "backbone-resnet", "mean-teacher", "rampup", "pce", "noise-models"),
    "co-teaching",
}
STAGE_B = {
    *("pseudo-label", "bai-crf", "inf-net", "mc-dropout", "uncert-measures"),
    *("jungo-eval", "bnn", "mc-batchnorm", "deep-ensembles", "mehrtash"),
    *("tta-uncert", "kendall-gal", "ua-mt", "sedai", "teacher-student", "self-loop"),
    *("cotrain-classic", "deep-cotrain-seg", "dct-qiao", "dmpct", "umct", "pi-model"),
    *("temporal-ensembling", "cui-mt", "tcsm", "mmt-psm", "extreme-consistency"),
    *("src-mt", "bortsova", "covid-weak-cons", "mi-cluster", "dmnet", "ssl-relpos"),
    *("ssl-jigsaw", "ssl-colorization", "ssl-rotation", "ssl-inpainting"),
    *("tajbakhsh-surrogate", "taleb-3d", "ssl-cpc", "ssl-exemplar"),
    *("multimodal-puzzle", "ssl-finetune-protocol", "gan-seg-adv", "spine-gan"),
    *("hung-advsemi", "dan", "asdnet", "zhang-cyclegan3d", "oslsm", "fss-finetune"),
    *("se-few-shot", "scse-block", "ssl-alpnet", "simclr", "moco"),
    *("chaitanya-contrast", "simclrv2-distill", "entropy-min", "cps", "fixmatch"),
    "unimatch",
}
STAGE_C = {
    *(
        "ssm-pca",
        "pretrain-finetune",
        "layer-transferability",
        "inflate-2d-copy",
        "inflate-2d-zeropad",
    ),
    *("ah-net", "tajbakhsh-ft", "transfusion", "rethink-pretrain", "models-genesis"),
    *("genesis-variants", "universal-model", "aug-warp", "aug-crop", "aug-erasing"),
    *("aug-cutout", "aug-intensity", "aug-mixup", "aug-adamixup", "aug-cutmix"),
    *("panfilov-mixup", "aug-feature-space", "adv-aug-general", "advbias", "olut-deformstats"),
    *("shen-fluid", "costa-retina", "chaitanya-taskaug", "cai-crossmodal", "eagan"),
    *("cgan", "qin-nodule", "zhao-oneshot", "gan-generic", "atlas-single"),
    *("atlas-multi", "lt-net", "ito-em", "chi-deform", "deepatlas"),
    *("deeprs", "dpa-densebias", "deep-atlas-net", "dap", "atlasnet"),
    *("prob-atlas-concat", "ambellan-ssm", "acnn", "srscn", "cvae-warp"),
    *("ravishankar", "post-dae", "tetris", "prior-star", "prior-convex"),
    *("prior-topology", "prior-size", "curriculum-data", "self-paced", "tang-attention-cl"),
    *("jimenez-cl", "cased", "dasl", "task-curriculum", "zhang-cda"),
    *("kervadec-curr",),
}

STAGE_D = {
    *("graph-cut", "variational-seg", "sparse-slices", "bai-propagate", "bitarafan"),
    *("zheng-sparse-ugst", "zheng-select", "wang-hybrid", "scribblesup", "dense-crf-loss"),
    *("kernel-cut", "ncut-loss", "dense-crf-post", "ji-scribble-brats", "zhao-box-inst"),
    *("peng-emphysema", "cheng-wsi", "macaque-neuron", "boundary-scribble", "scribble2label"),
    *("grabcut", "bifseg", "point-interactive", "interactive-edit", "iter-mrl", "suggestive-anno"),
    *("active-informative", "sourati-fisher", "shen-3crit", "ugir", "al-random-baseline"),
    *("whats-the-point", "pseudoedgenet", "concentric-loss", "qu-points", "pann"),
    *("cond-cnn", "huang-cotrain", "yan-lesion", "marginal-loss", "dodnet", "vicinal-partial"),
    *("tv", "gated-crf", "mumford-shah", "dmpls"),
}


def slug(heading: str) -> str:
    text = re.sub(r"[^\w\- ]", "", heading.lower().replace("`", ""))
    return text.strip().replace(" ", "-")


def test_ids_are_unique_and_the_first_stages_are_built():
    ids = [row.id for row in survey.rows()]
    assert len(ids) == len(set(ids))
    assert {row.id for row in BUILT} >= STAGE_A | STAGE_B | STAGE_C | STAGE_D


@pytest.mark.parametrize("row", BUILT, ids=lambda row: row.id)
def test_every_cell_points_at_something(row):
    thing = survey.load(row.id)
    assert thing.__doc__, f"{row.object} has no docstring"
    page, _, section = row.chapter.partition("#")
    source = ROOT / "book" / f"{page}.py"
    headings = re.findall(r"^# #+ (.+)$", source.read_text(), re.M)
    assert section in [slug(h) for h in headings], f"{row.chapter}: no such section"
    file, _, node = row.test.partition("::")
    text = (ROOT / file).read_text()
    assert f"def {node}(" in text, f"{row.test}: no such test"
    for name in row.protocols.split():
        assert study.protocol(name).name == name


@pytest.mark.parametrize("row", [r for r in BUILT if r.protocols], ids=lambda row: row.id)
def test_every_protocol_of_a_technique_has_three_seeds(row):
    runs = {}
    for r in study.read():
        if r["method"] == row.id:
            runs.setdefault(r["protocol"], set()).add(r["seed"])
    for name in row.protocols.split():
        assert len(runs.get(name, ())) >= 3, f"{row.id} under {name}: fewer than three seeds"
