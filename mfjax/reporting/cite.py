"""How to cite what a run rests on: mfjax, its data, its method and its optimiser, as BibTeX."""

from collections.abc import Mapping
from typing import Any

from mfjax.data.published import PUBLISHED

MFJAX = """@misc{mfjax,
  title = {mfjax: low-rank matrix factorisation of rating matrices in {JAX}},
  author = {{The mfjax authors}},
  version = {VERSION},
  license = {Apache-2.0},
  note = {Cite with the version and the conventions printed with your results},
}"""
ZHOU = """@inproceedings{zhou2008large,
  author    = {Zhou, Yunhong and Wilkinson, Dennis and Schreiber, Robert and Pan, Rong},
  title     = {Large-Scale Parallel Collaborative Filtering for the {Netflix} Prize},
  booktitle = {Algorithmic Aspects in Information and Management},
  series    = {Lecture Notes in Computer Science},
  volume    = {5034},
  pages     = {337--348},
  year      = {2008},
  doi       = {10.1007/978-3-540-68880-8_32},
}"""
HU = """@inproceedings{hu2008collaborative,
  author    = {Hu, Yifan and Koren, Yehuda and Volinsky, Chris},
  title     = {Collaborative Filtering for Implicit Feedback Datasets},
  booktitle = {Proceedings of the 8th IEEE International Conference on Data Mining},
  pages     = {263--272},
  year      = {2008},
  doi       = {10.1109/ICDM.2008.22},
}"""
TAKACS = """@inproceedings{takacs2011applications,
  author    = {Tak{\\'a}cs, G{\\'a}bor and Pil{\\'a}szy, Istv{\\'a}n and Tikk, Domonkos},
  title     = {Applications of the Conjugate Gradient Method for Implicit Feedback Collaborative
               Filtering},
  booktitle = {Proceedings of the 5th ACM Conference on Recommender Systems},
  pages     = {297--300},
  year      = {2011},
  doi       = {10.1145/2043932.2043987},
}"""
KOREN = """@article{koren2009matrix,
  author  = {Koren, Yehuda and Bell, Robert and Volinsky, Chris},
  title   = {Matrix Factorization Techniques for Recommender Systems},
  journal = {Computer},
  volume  = {42},
  number  = {8},
  pages   = {30--37},
  year    = {2009},
  doi     = {10.1109/MC.2009.263},
}"""
NADEAU = """@article{nadeau2003inference,
  author  = {Nadeau, Claude and Bengio, Yoshua},
  title   = {Inference for the Generalization Error},
  journal = {Machine Learning},
  volume  = {52},
  number  = {3},
  pages   = {239--281},
  year    = {2003},
  doi     = {10.1023/A:1024068626366},
}"""
ADAM = """@inproceedings{kingma2015adam,
  author    = {Kingma, Diederik P. and Ba, Jimmy},
  title     = {Adam: A Method for Stochastic Optimization},
  booktitle = {3rd International Conference on Learning Representations},
  year      = {2015},
}"""
ADAMW = """@inproceedings{loshchilov2019decoupled,
  author    = {Loshchilov, Ilya and Hutter, Frank},
  title     = {Decoupled Weight Decay Regularization},
  booktitle = {7th International Conference on Learning Representations},
  year      = {2019},
}"""
ADAGRAD = """@article{duchi2011adaptive,
  author  = {Duchi, John and Hazan, Elad and Singer, Yoram},
  title   = {Adaptive Subgradient Methods for Online Learning and Stochastic Optimization},
  journal = {Journal of Machine Learning Research},
  volume  = {12},
  pages   = {2121--2159},
  year    = {2011},
}"""
LION = """@inproceedings{chen2023symbolic,
  author    = {Chen, Xiangning and Liang, Chen and Huang, Da and Real, Esteban and Wang, Kaiyuan and
               Pham, Hieu and Dong, Xuanyi and Luong, Thang and Hsieh, Cho-Jui and Lu, Yifeng and
               Le, Quoc V.},
  title     = {Symbolic Discovery of Optimization Algorithms},
  booktitle = {Advances in Neural Information Processing Systems},
  volume    = {36},
  year      = {2023},
}"""
RMSPROP = """@misc{tieleman2012rmsprop,
  author       = {Tieleman, Tijmen and Hinton, Geoffrey},
  title        = {Lecture 6.5: {RMSProp}},
  howpublished = {COURSERA: Neural Networks for Machine Learning},
  year         = {2012},
}"""
LBFGS = """@article{liu1989limited,
  author  = {Liu, Dong C. and Nocedal, Jorge},
  title   = {On the Limited Memory {BFGS} Method for Large Scale Optimization},
  journal = {Mathematical Programming},
  volume  = {45},
  pages   = {503--528},
  year    = {1989},
  doi     = {10.1007/BF01589116},
}"""
POLYAK = """@article{polyak1964some,
  author  = {Polyak, Boris T.},
  title   = {Some Methods of Speeding Up the Convergence of Iteration Methods},
  journal = {USSR Computational Mathematics and Mathematical Physics},
  volume  = {4},
  number  = {5},
  pages   = {1--17},
  year    = {1964},
  doi     = {10.1016/0041-5553(64)90137-5},
}"""

OF_METHOD = {"als": ZHOU, "als_cg": TAKACS, "sgd": KOREN}
OF_OPTIMIZER = {
    "adagrad": ADAGRAD,
    "adam": ADAM,
    "adamw": ADAMW,
    "lbfgs": LBFGS,
    "lion": LION,
    "rmsprop": RMSPROP,
}


def citations(results: Mapping[str, Any]) -> list[str]:
    """What to cite of a run.

    Args:
      results: of its results.json.

    Returns:
      BibTeX entries: of mfjax in the run's version, of its data where they are a published set, of
      its method, its optimiser and the correction of its intervals where they have a paper.
    """
    method = results["method"]
    optimizer = method.get("optimizer") or {}
    has_momentum = "momentum" in optimizer.get("reads", ())
    fills_in = results["conventions"]["missing"] != "ignore"
    published = PUBLISHED.get(results["data"]["name"])
    found = [
        MFJAX.replace("VERSION", results["provenance"]["versions"]["mfjax"]),
        published and published.bibtex,
        OF_METHOD.get(method["name"]),
        HU if fills_in and method["name"].startswith("als") else None,
        OF_OPTIMIZER.get(optimizer.get("name")),
        POLYAK if has_momentum else None,
        NADEAU if "Nadeau" in results["protocol"] else None,
    ]
    return [entry for entry in found if entry]


def bibliography(results: list[Mapping[str, Any]]) -> str:
    """What to cite of several runs, each entry once.

    Args:
      results: of their results.json.

    Returns:
      The content of a BibTeX file.
    """
    entries = dict.fromkeys(entry for of_run in results for entry in citations(of_run))
    return "\n".join(f"{entry}\n" for entry in entries)
