"""The papers behind the methods, one entry per key."""

from safeplan.diffusion.guidance import Paper

CFG_PAPER = Paper(
    "cfg",
    "J. Ho, T. Salimans",
    "Classifier-Free Diffusion Guidance",
    "NeurIPS 2021 workshop (short version)",
    "2207.12598",
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
RESCALE = Paper(
    "rescale",
    "S. Lin, B. Liu, J. Li, X. Yang",
    "Common Diffusion Noise Schedules and Sample Steps are Flawed",
    "WACV 2024",
    "2305.08891",
)
COMPOSED = Paper(
    "composed",
    "N. Liu, S. Li, Y. Du, A. Torralba, J. B. Tenenbaum",
    "Compositional Visual Generation with Composable Diffusion Models",
    "ECCV 2022",
    "2206.01714",
)
APG_PAPER = Paper(
    "apg",
    "S. Sadat, O. Hilliges, R. M. Weber",
    "Eliminating Oversaturation and Artifacts of High Guidance Scales in Diffusion Models",
    "ICLR 2025",
    "2410.02416",
)
CFGPP = Paper(
    "cfgpp",
    "H. Chung, J. Kim, G. Y. Park, H. Nam, J. C. Ye",
    "CFG++: Manifold-constrained Classifier Free Guidance for Diffusion Models",
    "ICLR 2025",
    "2406.08070",
)
PAG_PAPER = Paper(
    "pag",
    "D. Ahn, H. Cho, J. Min, W. Jang, J. Kim, S. Kim, H. H. Park, K. H. Jin, S. Kim",
    "Self-Rectifying Diffusion Sampling with Perturbed-Attention Guidance",
    "ECCV 2024",
    "2403.17377",
)
SEG_PAPER = Paper(
    "seg",
    "S. Hong",
    "Smoothed Energy Guidance: Guiding Diffusion Models with Reduced Energy Curvature of Attention",
    "NeurIPS 2024",
    "2408.00760",
)
SLG_PAPER = Paper(
    "slg",
    "J. Hyung, K. Kim, S. Hong, M.-J. Kim, J. Choo",
    "Spatiotemporal Skip Guidance for Enhanced Video Diffusion Sampling",
    "CVPR 2025",
    "2411.18664",
)
TPG_PAPER = Paper(
    "tpg",
    "J. Rajabi, S. Mehraban, S. Sadat, B. Taati",
    "Token Perturbation Guidance for Diffusion Models",
    "NeurIPS 2025",
    "2506.10036",
)
SWG_PAPER = Paper(
    "swg",
    "N. Adaloglou, T. Kaiser, D. Iagudin, M. Kollmann",
    "Guiding a diffusion model with itself using sliding windows",
    "BMVC 2025",
    "2411.10257",
)
TSG_PAPER = Paper(
    "icg",
    "S. Sadat, M. Kansy, O. Hilliges, R. M. Weber",
    "No Training, No Problem: Rethinking Classifier-Free Guidance for Diffusion Models",
    "ICLR 2025",
    "2407.02687",
)
AUTOGUIDANCE = Paper(
    "autoguidance",
    "T. Karras, M. Aittala, T. Kynkaanniemi, J. Lehtinen, T. Aila, S. Laine",
    "Guiding a Diffusion Model with a Bad Version of Itself",
    "NeurIPS 2024",
    "2406.02507",
)
GFCG_PAPER = Paper(
    "gfcg",
    "R. Shenoy, Z. Pan, K. Balakrishnan, Q. Cheng, Y. Jeon, H. Yang, J. Kim",
    "Gradient-Free Classifier Guidance for Diffusion Model Sampling",
    "2024",
    "2411.15393",
)
ADAPTIVE = Paper(
    "adaptive",
    "A. Castillo, J. Kohler, J. C. Perez, J. P. Perez, A. Pumarola, B. Ghanem, P. Arbelaez, A. Thabet",
    "Adaptive Guidance: Training-free Acceleration of Conditional Diffusion Models",
    "AAAI 2025",
    "2312.12487",
)
CLASSIFIER = Paper(
    "classifier",
    "P. Dhariwal, A. Nichol",
    "Diffusion Models Beat GANs on Image Synthesis",
    "NeurIPS 2021",
    "2105.05233",
)
QGPO = Paper(
    "qgpo",
    "C. Lu, H. Chen, J. Chen, H. Su, C. Li, J. Zhu",
    "Contrastive Energy Prediction for Exact Energy-Guided Diffusion Sampling in Offline Reinforcement Learning",
    "ICML 2023",
    "2304.12824",
)
ELUCD = Paper(
    "elucd",
    "J. Ma, T. Hu, W. Wang, J. Sun",
    "Elucidating the Design Space of Classifier-Guided Diffusion Generation",
    "ICLR 2024",
    "2310.11311",
)
FRECAS = Paper(
    "frecas",
    "Z. Zhang, R. Li, L. Zhang",
    "FreCaS: Efficient Higher-Resolution Image Generation via Frequency-aware Cascaded Sampling",
    "ICLR 2025",
    "2410.18410",
)
FDG_PAPER = Paper(
    "fdg",
    "S. Sadat, T. Vontobel, F. Salehi, R. M. Weber",
    "Guidance in the Frequency Domain Enables High-Fidelity Sampling at Low CFG Scales",
    "2025",
    "2506.19713",
)
CFG_ZERO = Paper(
    "cfg_zero",
    "W. Fan, A. Y. Zheng, R. A. Yeh, Z. Liu",
    "CFG-Zero*: Improved Classifier-Free Guidance for Flow Matching Models",
    "2025",
    "2503.18886",
)
TCFG_PAPER = Paper(
    "tcfg",
    "M. Kwon, S. Kim, J. Jeong, Y. T. Hsiao, Y. Uh",
    "TCFG: Tangential Damping Classifier-free Guidance",
    "CVPR 2025",
    "2503.18137",
)
MAMBO_PAPER = Paper(
    "mambo",
    "S. Zhu, Q. Peng, Z. Shu, Y. Hu, Z. Yang, H. Zhang, Z. Pu, A. Zheng, X. Cui, J. Zhao, R. Feng, F. Cheng",
    "MAMBO-G: Magnitude-Aware Mitigation for Boosted Guidance",
    "ICML 2026",
    "2508.03442",
)
FBG = Paper(
    "feedback",
    "F. Koulischer, F. Handke, J. Deleu, T. Demeester, L. Ambrogioni",
    "Feedback Guidance of Diffusion Models",
    "NeurIPS 2025",
    "2506.06085",
)
PIGDM = Paper(
    "pigdm",
    "J. Song, A. Vahdat, M. Mardani, J. Kautz",
    "Pseudoinverse-Guided Diffusion Models for Inverse Problems",
    "ICLR 2023",
)
PDM = Paper(
    "pdm",
    "J. K. Christopher, S. Baek, F. Fioretto",
    "Constrained Synthesis with Projected Diffusion Models",
    "NeurIPS 2024",
    "2402.03559",
)
SAFEDIFFUSER = Paper(
    "safediffuser",
    "W. Xiao, T.-H. Wang, C. Gan, D. Rus",
    "SafeDiffuser: Safe Planning with Diffusion Probabilistic Models",
    "2023",
    "2306.00148",
)
CONSTRICTING = Paper(
    "constricting",
    "D. Gadginmath, A. Allibhoy, F. Pasqualetti",
    "Provably Safe Generative Sampling with Constricting Barrier Functions",
    "2026",
    "2602.21429",
)
DIRECT = Paper(
    "direct",
    "P. Giaretta, Z. Li, N. Azizan",
    "DiRecT: Safe Diffusion-Based Planning via Receding-Horizon Denoising",
    "2026",
    "2606.15359",
)
