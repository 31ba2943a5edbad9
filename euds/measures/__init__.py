"""Text or tokens in, scores out: information, generative and semantic entropy."""
