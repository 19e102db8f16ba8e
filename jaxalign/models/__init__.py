"""Flax linen towers; parameter names are big_vision's wherever the part exists there."""

from .image_tower import ImageTower as ImageTower
from .image_tower import ImageTowerConfig as ImageTowerConfig
from .resnet import ModifiedResNet as ModifiedResNet
from .resnet import ResNetConfig as ResNetConfig
from .text_tower import TextTower as TextTower
from .text_tower import TextTowerConfig as TextTowerConfig
from .two_towers import TwoTowers as TwoTowers
from .two_towers import TwoTowersConfig as TwoTowersConfig
from .two_towers import image_tower as image_tower
