"""Runs in FLAML's own environment: `AutoML` with its defaults and a time budget; its claim, and what it delivers."""

import json
import sys
import warnings
from pathlib import Path

import pandas as pd
from flaml import AutoML
from sklearn.metrics import r2_score, roc_auc_score

warnings.simplefilter("ignore")
folder, target, task, seconds, seed = sys.argv[1:]
given, kept = (pd.read_csv(Path(folder) / f"{name}.csv") for name in ("given", "kept"))
for name in given.columns:
    if name != target and given[name].dtype.kind not in "fib":
        levels = sorted(given[name].dropna().astype(str).unique())
        for part in (given, kept):
            part[name] = pd.Categorical(part[name].astype(str), categories=levels)
classes = task == "classification"
several = classes and given[target].nunique() > 2
metric = "r2" if not classes else "roc_auc_ovr" if several else "roc_auc"
automl = AutoML()
automl.fit(
    given.drop(columns=target),
    given[target],
    task=task,
    metric=metric,
    time_budget=float(seconds),
    seed=int(seed),
    n_jobs=2,
    verbose=0,
    estimator_list=["lgbm", "rf", "extra_tree"] + (["lrl1"] if classes else []),
)
asked, truth = kept.drop(columns=target), kept[target]
if not classes:
    delivered = r2_score(truth, automl.predict(asked))
else:
    chances = automl.predict_proba(asked)
    delivered = roc_auc_score(truth, chances, multi_class="ovr") if several else roc_auc_score(truth, chances[:, 1])
print(json.dumps({"claimed": 1 - automl.best_loss, "delivered": float(delivered), "metric": metric}))
