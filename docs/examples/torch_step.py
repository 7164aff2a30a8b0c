"""A training step of small_cnn in PyTorch, recorded for mpsim: python torch_step.py OUT.npz [--rounded]"""

import sys

import numpy as np
import torch
from torch import nn

from mpsim import assignment, data, trace
from mpsim.nn import from_torch
from mpsim.recording.torch import record

torch.set_num_threads(1)  # several threads split some of the sums


class SmallCNN(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(1, 16, 3, padding=1, bias=False), nn.BatchNorm2d(16), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()
        self.conv3, self.bn3, self.relu3 = nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU()
        self.maxpool1, self.avg_pool, self.linear = nn.MaxPool2d(2), nn.AvgPool2d(2), nn.Linear(256, 10)

    def forward(self, x):
        x = self.maxpool1(self.relu1(self.bn1(self.conv1(x))))
        x = self.relu2(self.bn2(self.conv2(x)))
        x = self.relu3(self.bn3(self.conv3(x)))
        return self.linear(torch.flatten(self.avg_pool(x), 1))


def make():  # for --model torch_step.py:make
    return SmallCNN()


if __name__ == "__main__":
    torch.manual_seed(0)
    module, digits = make(), data.load("digits", "train")
    images, labels = digits.load(np.arange(16)), digits.labels[:16]
    settings = {}
    if "--rounded" in sys.argv:
        levels = "bfloat16:float8_e4m3fn,float8_e5m2"
        plan = assignment.assign(trace(from_torch(module, images), batch=16), "uniform_low", levels=levels)
        settings = {"plan": plan, "loss_scale": 65536.0}
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1, momentum=0.9, weight_decay=5e-4)
    record(module, (images, labels), sys.argv[1], optimizer=optimizer, **settings)
