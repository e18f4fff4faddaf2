"""What the keys in brackets of docstrings stand for; those of guidance methods are in `safeplan.guidance.papers`."""

PAPERS = {
    "alpha_spending": "K. K. G. Lan, D. L. DeMets. Discrete Sequential Boundaries for Clinical Trials. Biometrika "
    "70(3), 1983",
    "bcq": "S. Fujimoto, D. Meger, D. Precup. Off-Policy Deep Reinforcement Learning without Exploration. ICML 2019. "
    "arXiv:1812.02900",
    "betting": "I. Waudby-Smith, A. Ramdas. Estimating Means of Bounded Random Variables by Betting. Journal of the "
    "Royal Statistical Society B 86(1), 2024. arXiv:2010.09686",
    "cdt": "Z. Liu, Z. Guo, Y. Yao, Z. Cen, W. Yu, T. Zhang, D. Zhao. Constrained Decision Transformer for Offline "
    "Safe Reinforcement Learning. ICML 2023. arXiv:2302.07351",
    "conformal": "A. N. Angelopoulos, S. Bates. A Gentle Introduction to Conformal Prediction and Distribution-Free "
    "Uncertainty Quantification. 2021. arXiv:2107.07511",
    "conformal_outliers": "S. Bates, E. Candes, L. Lei, Y. Romano, M. Sesia. Testing for Outliers with Conformal "
    "p-values. Annals of Statistics 51(1), 2023. arXiv:2104.08279",
    "coptidice": "J. Lee, C. Paduraru, D. J. Mankowitz, N. Heess, D. Precup, K.-E. Kim, A. Guez. COptiDICE: Offline "
    "Constrained Reinforcement Learning via Stationary Distribution Correction Estimation. ICLR 2022. arXiv:2204.08957",
    "cpq": "H. Xu, X. Zhan, X. Zhu. Constraints Penalized Q-learning for Safe Offline Reinforcement Learning. AAAI "
    "2022. arXiv:2107.09003",
    "cross_entropy": "P.-T. de Boer, D. P. Kroese, S. Mannor, R. Y. Rubinstein. A Tutorial on the Cross-Entropy "
    "Method. Annals of Operations Research 134(1), 2005",
    "cvar": "R. T. Rockafellar, S. Uryasev. Optimization of Conditional Value-at-Risk. Journal of Risk 2(3), 2000",
    "ddim": "J. Song, C. Meng, S. Ermon. Denoising Diffusion Implicit Models. ICLR 2021. arXiv:2010.02502",
    "ddpm": "J. Ho, A. Jain, P. Abbeel. Denoising Diffusion Probabilistic Models. NeurIPS 2020. arXiv:2006.11239",
    "decision_transformer": "L. Chen, K. Lu, A. Rajeswaran, K. Lee, A. Grover, M. Laskin, P. Abbeel, A. Srinivas, I. "
    "Mordatch. Decision Transformer: Reinforcement Learning via Sequence Modeling. NeurIPS 2021. arXiv:2106.01345",
    "deep_sets": "M. Zaheer, S. Kottur, S. Ravanbakhsh, B. Poczos, R. Salakhutdinov, A. Smola. Deep Sets. "
    "NeurIPS 2017. arXiv:1703.06114",
    "density_corl": "Y. Meng, D. Sun, Z. Qiu, M. T. B. Waez, C. Fan. Learning Density Distribution of Reachable States "
    "for Autonomous Systems. CoRL 2021. arXiv:2109.06728",
    "diffuser": "M. Janner, Y. Du, J. Tenenbaum, S. Levine. Planning with Diffusion for Flexible Behavior Synthesis. "
    "ICML 2022. arXiv:2205.09991",
    "dit": "W. Peebles, S. Xie. Scalable Diffusion Models with Transformers. ICCV 2023. arXiv:2212.09748",
    "dpm_solver_pp": "C. Lu, Y. Zhou, F. Bao, J. Chen, C. Li, J. Zhu. DPM-Solver++: Fast Solver for Guided Sampling of "
    "Diffusion Probabilistic Models. 2022. arXiv:2211.01095",
    "dsrl": "Z. Liu, Z. Guo, H. Lin, Y. Yao, J. Zhu, Z. Cen, H. Hu, W. Yu, T. Zhang, J. Tan, D. Zhao. Datasets and "
    "Benchmarks for Offline Safe Reinforcement Learning. DMLR 2024. arXiv:2306.09303",
    "edm": "T. Karras, M. Aittala, T. Aila, S. Laine. Elucidating the Design Space of Diffusion-Based Generative "
    "Models. NeurIPS 2022. arXiv:2206.00364",
    "factest": "C. Fan, K. Miller, S. Mitra. Fast and Guaranteed Safe Controller Synthesis for Nonlinear Vehicle "
    "Models. CAV 2020",
    "fid": "M. Heusel, H. Ramsauer, T. Unterthiner, B. Nessler, S. Hochreiter. GANs Trained by a Two Time-Scale Update "
    "Rule Converge to a Local Nash Equilibrium. NeurIPS 2017. arXiv:1706.08500",
    "film": "E. Perez, F. Strub, H. de Vries, V. Dumoulin, A. Courville. FiLM: Visual Reasoning with a General "
    "Conditioning Layer. AAAI 2018. arXiv:1709.07871",
    "fisor": "Y. Zheng, J. Li, D. Yu, Y. Yang, S. E. Li, X. Zhan, J. Liu. Safe Offline Reinforcement Learning with "
    "Feasibility-Guided Diffusion Model. ICLR 2024. arXiv:2401.10700",
    "flow_matching": "Y. Lipman, R. T. Q. Chen, H. Ben-Hamu, M. Nickel, M. Le. Flow Matching for Generative Modeling. "
    "ICLR 2023. arXiv:2210.02747",
    "fqe": "H. M. Le, C. Voloshin, Y. Yue. Batch Policy Learning under Constraints. ICML 2019. arXiv:1903.08738",
    "fql": "S. Park, Q. Li, S. Levine. Flow Q-Learning. ICML 2025. arXiv:2502.02538",
    "hierarchical_conformal": "Y. Lee, R. F. Barber, R. Willett. Distribution-free inference with hierarchical data. "
    "arXiv:2306.06342, 2023",
    "hdr": "R. J. Hyndman. Computing and Graphing Highest Density Regions. The American Statistician 50(2), 1996",
    "hj_reach": "I. M. Mitchell, A. M. Bayen, C. J. Tomlin. A Time-Dependent Hamilton-Jacobi Formulation of Reachable "
    "Sets for Continuous Dynamic Games. IEEE Transactions on Automatic Control 50(7), 2005",
    "holohover": "The recordings of a planar hovercraft that come with the repository; source and licence in "
    "scripts/data/ beside them",
    "improved_ddpm": "A. Nichol, P. Dhariwal. Improved Denoising Diffusion Probabilistic Models. ICML 2021. "
    "arXiv:2102.09672",
    "interval_analysis": "R. E. Moore, R. B. Kearfott, M. J. Cloud. Introduction to Interval Analysis. SIAM 2009",
    "iql": "I. Kostrikov, A. Nair, S. Levine. Offline Reinforcement Learning with Implicit Q-Learning. ICLR 2022. "
    "arXiv:2110.06169",
    "liouville": "M. Ehrendorfer. The Liouville Equation and Its Potential Usefulness for the Prediction of Forecast "
    "Skill. Part I: Theory. Monthly Weather Review 122(4), 1994",
    "lohner": "R. J. Lohner. Enclosing the Solutions of Ordinary Initial and Boundary Value Problems. In: "
    "Computerarithmetic, Teubner 1987",
    "pcn": "S. L. Cotter, G. O. Roberts, A. M. Stuart, D. White. MCMC Methods for Functions: Modifying Old Algorithms "
    "to Make Them Faster. Statistical Science 28(3), 2013. arXiv:1202.0709",
    "pid_lagrangian": "A. Stooke, J. Achiam, P. Abbeel. Responsive Safety in Reinforcement Learning by PID "
    "Lagrangian Methods. ICML 2020. arXiv:2007.03964",
    "precision_recall": "T. Kynkaanniemi, T. Karras, S. Laine, J. Lehtinen, T. Aila. Improved Precision and Recall "
    "Metric for Assessing Generative Models. NeurIPS 2019. arXiv:1904.06991",
    "rice": "S. O. Rice. Mathematical Analysis of Random Noise. Bell System Technical Journal 23(3), 1944",
    "sac": "T. Haarnoja, A. Zhou, P. Abbeel, S. Levine. Soft Actor-Critic: Off-Policy Maximum Entropy Deep "
    "Reinforcement Learning with a Stochastic Actor. ICML 2018. arXiv:1801.01290",
    "saute": "A. Sootla, A. I. Cowen-Rivers, T. Jafferjee, Z. Wang, D. Mguni, J. Wang, H. Bou-Ammar. Saute RL: Almost "
    "Surely Safe Reinforcement Learning Using State Augmentation. ICML 2022. arXiv:2202.06558",
    "score_sde": "Y. Song, J. Sohl-Dickstein, D. P. Kingma, A. Kumar, S. Ermon, B. Poole. Score-Based Generative "
    "Modeling through Stochastic Differential Equations. ICLR 2021. arXiv:2011.13456",
    "scrambled_net": "A. B. Owen. Scrambled Net Variance for Integrals of Smooth Functions. Annals of Statistics "
    "25(4), 1997",
    "silverman": "B. W. Silverman. Density Estimation for Statistics and Data Analysis. Chapman and Hall, 1986",
    "smc_rare": "F. Cerou, P. Del Moral, T. Furon, A. Guyader. Sequential Monte Carlo for Rare Event Estimation. "
    "Statistics and Computing 22(3), 2012",
    "spline_flow": "C. Durkan, A. Bekasov, I. Murray, G. Papamakarios. Neural Spline Flows. NeurIPS 2019. "
    "arXiv:1906.04032",
    "strang": "G. Strang. On the Construction and Comparison of Difference Schemes. SIAM Journal on Numerical Analysis "
    "5(3), 1968",
    "subset_simulation": "S.-K. Au, J. L. Beck. Estimation of Small Failure Probabilities in High Dimensions by "
    "Subset Simulation. Probabilistic Engineering Mechanics 16(4), 2001",
    "td3": "S. Fujimoto, H. van Hoof, D. Meger. Addressing Function Approximation Error in Actor-Critic Methods. "
    "ICML 2018. arXiv:1802.09477",
    "td3_bc": "S. Fujimoto, S. S. Gu. A Minimalist Approach to Offline Reinforcement Learning. NeurIPS 2021. "
    "arXiv:2106.06860",
    "trebi": "Q. Lin, B. Tang, Z. Wu, C. Yu, S. Mao, Q. Xie, X. Wang, D. Wang. Safe Offline Reinforcement Learning "
    "with Real-Time Budget Constraints. ICML 2023. arXiv:2306.00603",
    "unscented": "S. J. Julier, J. K. Uhlmann. Unscented Filtering and Nonlinear Estimation. Proceedings of the IEEE "
    "92(3), 2004",
    "weno": "G.-S. Jiang, D. Peng. Weighted ENO Schemes for Hamilton-Jacobi Equations. SIAM Journal on Scientific "
    "Computing 21(6), 2000",
}
