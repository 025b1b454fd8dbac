"""Runs in AutoGluon's own environment: `TabularPredictor` with its defaults and a time budget; claim and delivery."""

import json
import sys
import tempfile
import warnings
from pathlib import Path

import pandas as pd
from autogluon.tabular import TabularPredictor
from sklearn.metrics import r2_score, roc_auc_score

warnings.simplefilter("ignore")
folder, target, task, seconds, _seed = sys.argv[1:]  # its splits and models have fixed seeds of their own
given, kept = (pd.read_csv(Path(folder) / f"{name}.csv") for name in ("given", "kept"))
classes = task == "classification"
several = classes and given[target].nunique() > 2
metric = "r2" if not classes else "roc_auc_ovr" if several else "roc_auc"
problem = "regression" if not classes else "multiclass" if several else "binary"
with tempfile.TemporaryDirectory() as place:
    predictor = TabularPredictor(label=target, problem_type=problem, eval_metric=metric, path=place, verbosity=0)
    predictor.fit(given, time_limit=float(seconds), num_cpus=2)
    claimed = predictor.leaderboard(silent=True).set_index("model").loc[predictor.model_best, "score_val"]
    asked, truth = kept.drop(columns=target), kept[target]
    if not classes:
        delivered = r2_score(truth, predictor.predict(asked))
    elif several:
        chances = predictor.predict_proba(asked)
        delivered = roc_auc_score(truth, chances, multi_class="ovr", labels=list(chances.columns))
    else:
        yes = predictor.positive_class
        delivered = roc_auc_score(truth == yes, predictor.predict_proba(asked)[yes])
print(json.dumps({"claimed": float(claimed), "delivered": float(delivered), "metric": metric}))
