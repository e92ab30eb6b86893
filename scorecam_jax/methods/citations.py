"""The sources of the methods, as BibTeX."""

from collections.abc import Iterable
from typing import NamedTuple


class Citation(NamedTuple):
    """A source.

    Attributes:
        authors: the authors, separated as in BibTeX.
        title: the title of the paper.
        year: the year of publication.
        where: a BibTeX field and its value, such as `eprint` and an arXiv number, or `doi`.
    """

    authors: str
    title: str
    year: int
    where: tuple[str, str]

    def bibtex(self, key: str) -> str:
        """The BibTeX entry, with the given key."""
        field, value = self.where
        archive = ["  archiveprefix = {arXiv},"] if field == "eprint" else []
        lines = [
            f"@misc{{{key},",
            f"  author = {{{self.authors}}},",
            f"  title = {{{{{self.title}}}}},",
            f"  year = {{{self.year}}},",
            *archive,
            f"  {field} = {{{value}}},",
            "}",
        ]
        return "\n".join(lines)


def bibtex(keys: Iterable[str]) -> str:
    """The BibTeX entries of some keys, each once."""
    return "\n\n".join(CITATIONS[key].bibtex(key) for key in dict.fromkeys(keys))


def _arxiv(authors: str, title: str, year: int, number: str) -> Citation:
    return Citation(authors, title, year, ("eprint", number))


CITATIONS = {
    "wang2020score": _arxiv(
        "Wang, Haofan and Wang, Zifan and Du, Mengnan and Yang, Fan and Zhang, Zijian and "
        "Ding, Sirui and Mardziel, Piotr and Hu, Xia",
        "Score-CAM: Score-Weighted Visual Explanations for Convolutional Neural Networks",
        2020, "1910.01279",
    ),
    "desai2020ablation": Citation(
        "Desai, Saurabh and Ramaswamy, Harish G.",
        "Ablation-CAM: Visual Explanations for Deep Convolutional Network via Gradient-free "
        "Localization",
        2020, ("howpublished", "IEEE Winter Conference on Applications of Computer Vision"),
    ),
    "byun2022recipro": _arxiv(
        "Byun, Seok-Yong and Lee, Wonju",
        "Recipro-CAM: Fast gradient-free visual explanations for convolutional neural networks",
        2022, "2209.14074",
    ),
    "naidu2020iscam": _arxiv(
        "Naidu, Rakshit and Ghosh, Ankita and Maurya, Yash and Nayak K, Shamanth R and "
        "Kundu, Soumya Snigdha",
        "IS-CAM: Integrated Score-CAM for axiomatic-based explanations", 2020, "2010.03023",
    ),
    "wang2020sscam": _arxiv(
        "Wang, Haofan and Naidu, Rakshit and Michael, Joy and Kundu, Soumya Snigdha",
        "SS-CAM: Smoothed Score-CAM for Sharper Visual Feature Localization", 2020, "2006.14255",
    ),
    "zhang2021group": _arxiv(
        "Zhang, Qinglong and Rao, Lu and Yang, Yubin",
        "Group-CAM: Group Score-Weighted Visual Explanations for Deep Convolutional Networks",
        2021, "2103.13859",
    ),
    "chen2022gscore": Citation(
        "Chen, Peijie and Li, Qi and Biaz, Saad and Bui, Trung and Nguyen, Anh",
        "gScoreCAM: What is CLIP looking at?",
        2022, ("howpublished", "Asian Conference on Computer Vision"),
    ),
    "englebert2022poly": _arxiv(
        "Englebert, Alexandre and Cornu, Olivier and De Vleeschouwer, Christophe",
        "Poly-CAM: High resolution class activation map for convolutional neural networks",
        2022, "2204.13359",
    ),
    "zhang2023opti": _arxiv(
        "Zhang, Hanwei and Torres, Felipe and Sicre, Ronan and Avrithis, Yannis and "
        "Ayache, Stephane",
        "Opti-CAM: Optimizing saliency maps for interpretability", 2023, "2301.07002",
    ),
    "petsiuk2018rise": _arxiv(
        "Petsiuk, Vitali and Das, Abir and Saenko, Kate",
        "RISE: Randomized Input Sampling for Explanation of Black-box Models", 2018, "1806.07421",
    ),
    "zeiler2014visualizing": _arxiv(
        "Zeiler, Matthew D. and Fergus, Rob",
        "Visualizing and Understanding Convolutional Networks", 2014, "1311.2901",
    ),
    "selvaraju2017grad": _arxiv(
        "Selvaraju, Ramprasaath R. and Cogswell, Michael and Das, Abhishek and "
        "Vedantam, Ramakrishna and Parikh, Devi and Batra, Dhruv",
        "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based Localization",
        2017, "1610.02391",
    ),
    "chattopadhay2018grad": _arxiv(
        "Chattopadhay, Aditya and Sarkar, Anirban and Howlader, Prantik and "
        "Balasubramanian, Vineeth N.",
        "Grad-CAM++: Improved Visual Explanations for Deep Convolutional Networks",
        2018, "1710.11063",
    ),
    "fu2020axiom": _arxiv(
        "Fu, Ruigang and Hu, Qingyong and Dong, Xiaohu and Guo, Yulan and Gao, Yinghui and "
        "Li, Biao",
        "Axiom-based Grad-CAM: Towards Accurate Visualization and Explanation of CNNs",
        2020, "2008.02312",
    ),
    "draelos2020hires": _arxiv(
        "Draelos, Rachel Lea and Carin, Lawrence",
        "Use HiResCAM instead of Grad-CAM for faithful explanations of convolutional neural "
        "networks",
        2020, "2011.08891",
    ),
    "zhang2025finer": _arxiv(
        "Zhang, Ziheng and Gu, Jianyang and Chowdhury, Arpita and Mai, Zheda and Carlyn, David and "
        "Berger-Wolf, Tanya and Su, Yu and Chao, Wei-Lun",
        "Finer-CAM: Spotting the Difference Reveals Finer Details for Visual Explanation",
        2025, "2501.11309",
    ),
    "jiang2021layer": Citation(
        "Jiang, Peng-Tao and Zhang, Chang-Bin and Hou, Qibin and Cheng, Ming-Ming and "
        "Wei, Yunchao",
        "LayerCAM: Exploring Hierarchical Class Activation Maps for Localization",
        2021, ("doi", "10.1109/TIP.2021.3089943"),
    ),
    "cai2025shapley": _arxiv(
        "Cai, Huaiguang", "CAMs as Shapley Value-based Explainers", 2025, "2501.06261"
    ),
    "chung2025seg": Citation(
        "Chung, Ching-Ting and Ying, Josh Jia-Ching",
        "Seg-Eigen-CAM: Eigen-Value-Based Visual Explanations for Semantic Segmentation Models",
        2025, ("doi", "10.3390/app15137562"),
    ),
    "muhammad2020eigen": _arxiv(
        "Muhammad, Mohammed Bany and Yeasin, Mohammed",
        "Eigen-CAM: Class Activation Map using Principal Components", 2020, "2008.00299",
    ),
    "karmani2024kpca": _arxiv(
        "Karmani, Sachin and Sivakaran, Thanushon and Prasad, Gaurav and Ali, Mehmet and "
        "Yang, Wenbo and Tang, Sheyang",
        "KPCA-CAM: Visual Explainability of Deep Computer Vision Models using Kernel PCA",
        2024, "2410.00267",
    ),
    "karjauv2024lafam": _arxiv(
        "Karjauv, Aray and Albayrak, Sahin",
        "LaFAM: Unsupervised Feature Attribution with Label-free Activation Maps",
        2024, "2407.06059",
    ),
    "fuad2020features": Citation(
        "Fuad, Kazi Ahmed Asif and Martin, Pierre-Etienne and Giot, Romain and Bourqui, Romain and "
        "Benois-Pineau, Jenny and Zemmari, Akka",
        "Features Understanding in 3D CNNs for Actions Recognition in Video",
        2020, ("url", "https://hal.science/hal-02963298"),
    ),
    "collins2018deep": _arxiv(
        "Collins, Edo and Achanta, Radhakrishna and Süsstrunk, Sabine",
        "Deep Feature Factorization For Concept Discovery", 2018, "1806.10206",
    ),
    "abnar2020quantifying": _arxiv(
        "Abnar, Samira and Zuidema, Willem",
        "Quantifying Attention Flow in Transformers", 2020, "2005.00928",
    ),
    "chefer2021generic": _arxiv(
        "Chefer, Hila and Gur, Shir and Wolf, Lior",
        "Generic Attention-model Explainability for Interpreting Bi-Modal and Encoder-Decoder "
        "Transformers",
        2021, "2103.15679",
    ),
    "bousselham2024legrad": _arxiv(
        "Bousselham, Walid and Boggust, Angie and Chaybouti, Sofian and Strobelt, Hendrik and "
        "Kuehne, Hilde",
        "LeGrad: An Explainability Method for Vision Transformers via Feature Formation "
        "Sensitivity",
        2024, "2404.03214",
    ),
    "zhao2025grad": _arxiv(
        "Zhao, Chenyang and Wang, Kun and Hsiao, Janet H. and Chan, Antoni B.",
        "Grad-ECLIP: Gradient-based Visual and Textual Explanations for CLIP", 2025, "2502.18816",
    ),
    "byun2023vit": _arxiv(
        "Byun, Seok-Yong and Lee, Wonju",
        "ViT-ReciproCAM: Gradient and Attention-Free Visual Explanations for Vision Transformer",
        2023, "2310.02588",
    ),
    "simonyan2014deep": _arxiv(
        "Simonyan, Karen and Vedaldi, Andrea and Zisserman, Andrew",
        "Deep Inside Convolutional Networks: Visualising Image Classification Models and Saliency "
        "Maps",
        2014, "1312.6034",
    ),
    "shrikumar2016not": _arxiv(
        "Shrikumar, Avanti and Greenside, Peyton and Shcherbina, Anna and Kundaje, Anshul",
        "Not Just a Black Box: Learning Important Features Through Propagating Activation "
        "Differences",
        2016, "1605.01713",
    ),
    "sundararajan2017axiomatic": _arxiv(
        "Sundararajan, Mukund and Taly, Ankur and Yan, Qiqi",
        "Axiomatic Attribution for Deep Networks", 2017, "1703.01365",
    ),
    "smilkov2017smoothgrad": _arxiv(
        "Smilkov, Daniel and Thorat, Nikhil and Kim, Been and Viegas, Fernanda and "
        "Wattenberg, Martin",
        "SmoothGrad: removing noise by adding noise", 2017, "1706.03825",
    ),
    "omeiza2019smooth": _arxiv(
        "Omeiza, Daniel and Speakman, Skyler and Cintas, Celia and Weldermariam, Komminist",
        "Smooth Grad-CAM++: An Enhanced Inference Level Visualization Technique for Deep "
        "Convolutional Neural Network Models",
        2019, "1908.01224",
    ),
    "srinivas2019full": _arxiv(
        "Srinivas, Suraj and Fleuret, François",
        "Full-Gradient Representation for Neural Network Visualization", 2019, "1905.00780",
    ),
    "choe2020evaluating": _arxiv(
        "Choe, Junsuk and Oh, Seong Joon and Lee, Seungho and Chun, Sanghyuk and Akata, Zeynep and "
        "Shim, Hyunjung",
        "Evaluating Weakly Supervised Object Localization Methods Right", 2020, "2001.07437",
    ),
}  # fmt: skip
