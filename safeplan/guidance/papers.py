"""The papers behind the methods, one entry per key."""

from safeplan.diffusion.guidance import Paper

CFG_PAPER = Paper(
    "cfg", "J. Ho, T. Salimans", "Classifier-Free Diffusion Guidance", "NeurIPS workshop 2021", "2207.12598"
)
INTERVAL = Paper(
    "interval",
    "T. Kynkaanniemi, M. Aittala, T. Karras, S. Laine, T. Aila, J. Lehtinen",
    "Applying Guidance in a Limited Interval Improves Sample and Distribution Quality in Diffusion Models",
    "NeurIPS 2024",
    "2404.07724",
)
DPS = Paper(
    "dps",
    "H. Chung, J. Kim, M. T. McCann, M. L. Klasky, J. C. Ye",
    "Diffusion Posterior Sampling for General Noisy Inverse Problems",
    "ICLR 2023",
    "2209.14687",
)
