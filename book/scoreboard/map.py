# %% [markdown]
# # Map of the survey
#
# Every technique that the survey of Peng and Wang names, {cite:p}`peng2021medical`, and where it lives in this project. Names with
# a link are built: code, a test that fails without the mechanism, a section of a chapter. The others are on the way.

# %% tags=["setup"]

# %%
from collections import Counter

from lsseg_edu import show, survey

techniques = [row for row in survey.rows() if row.priority in ("core", "variant", "beyond")]
state = Counter((row.priority, row.built) for row in techniques)
for priority in ("core", "variant", "beyond"):
    if state[priority, True] + state[priority, False]:
        print(
            f"{priority:<8} {state[priority, True]:>3} built, {state[priority, False]:>3} to come"
        )

# %%
show.survey_table()
