"""Score texts by data-juicer's LLM perplexity filter; runs in a virtual environment of its own.

python data_juicer_perplexity.py MODEL_FOLDER < texts.json      # prints seconds and mean surprisals as JSON
"""

import json
import math
import sys
import time

import torch
from data_juicer.ops.filter.llm_perplexity_filter import LLMPerplexityFilter
from data_juicer.utils.constant import Fields, StatsKeys
from data_juicer.utils.model_utils import get_model

texts = json.load(sys.stdin)
# The device is named, as the filter would otherwise hand the model to accelerate's automatic placement.
operator = LLMPerplexityFilter(hf_model=sys.argv[1], model_params={"torch_dtype": torch.float32}, accelerator="cpu")
get_model(operator.model_key, None, False)
start = time.perf_counter()
samples = [operator.compute_stats_single({"text": text, Fields.stats: {}}) for text in texts]
seconds = time.perf_counter() - start
means = [math.log(sample[Fields.stats][StatsKeys.llm_perplexity]) for sample in samples]
print(json.dumps({"seconds": seconds, "means": means}))
