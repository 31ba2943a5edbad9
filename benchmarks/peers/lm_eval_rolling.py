"""Score texts by lm-evaluation-harness' `loglikelihood_rolling`; runs in a virtual environment of its own.

python lm_eval_rolling.py MODEL_FOLDER < texts.json      # prints seconds and log-likelihoods as JSON
"""

import json
import sys
import time

import torch
from lm_eval.api.instance import Instance
from lm_eval.models.huggingface import HFLM

BATCH_ROWS = 16

texts = json.load(sys.stdin)
model = HFLM(pretrained=sys.argv[1], device="cpu", dtype=torch.float32, batch_size=BATCH_ROWS)
requests = [Instance("loglikelihood_rolling", {}, (text,), at) for at, text in enumerate(texts)]
start = time.perf_counter()
found = model.loglikelihood_rolling(requests, disable_tqdm=True)
seconds = time.perf_counter() - start
print(json.dumps({"seconds": seconds, "sums": found, "prefix": model.prefix_token_id}))
