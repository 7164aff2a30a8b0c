"""A training step of small_cnn in PyTorch, its stored tensors written for mpsim: python torch_step.py OURS.npz OUT.npz

OURS, from 'mpsim trace-step small_cnn --out OURS.npz', gives images, labels, parameters and the loss scale.
"""

import json
import sys

import numpy as np
import torch
from torch import nn

torch.set_num_threads(1)  # several threads split some of the sums
step, seen, ops = np.load(sys.argv[1]), {}, []
index = json.loads(step["mpsim_index.json"])
FORMAT = {kind: getattr(torch, index["tensors"][f"{kind}/1/0"]["format"]) for kind in ("P", "Y", "G", "GP")}


def to(values, kind):
    return values.to(FORMAT[kind]).float()


class Store(torch.autograd.Function):  # rounds an op's output; the derivative of rounding is 1
    forward = staticmethod(lambda context, output: to(output, "Y"))
    backward = staticmethod(lambda context, gradient: gradient)


class StoredLogSoftmax(torch.autograd.Function):  # differentiates from the stored output
    @staticmethod
    def forward(context, x):
        context.y = to(torch.log_softmax(x, 1), "Y")
        return context.y.clone()

    @staticmethod
    def backward(context, gradient):
        return gradient - context.y.exp() * gradient.sum(1, keepdim=True)


class LogSoftmax(nn.Module):
    def forward(self, x):
        return StoredLogSoftmax.apply(x)


def after(module, inputs, output):  # the hook behind every op
    op, stored = len(ops), Store.apply(output)
    ops.append(module)
    seen[f"Y/{op}/0"] = stored.detach().numpy()
    if stored.requires_grad and stored.dim():  # not the images, not the loss

        def finished(gradient):  # autograd has summed it
            seen[f"G/{op}/0"] = to(gradient, "G").numpy()
            return torch.from_numpy(seen[f"G/{op}/0"])

        stored.register_hook(finished)
    return stored


layers = [nn.Identity()]  # op 0 stores the images
for op in (1, 5, 8):
    outputs, inputs, *_ = step[f"master/{op}/0"].shape
    layers += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()]
layers.insert(4, nn.MaxPool2d(2))
network = nn.Sequential(*layers, nn.AvgPool2d(2), nn.Flatten(), nn.Linear(4 * outputs, 10), LogSoftmax())
loss = nn.NLLLoss()
modules = [module for module in (*network, loss) if not isinstance(module, nn.Flatten)]  # a view is not an op
for op, module in enumerate(modules):
    module.register_forward_hook(after)
    for i, parameter in enumerate(module.parameters()):
        parameter.data = to(torch.from_numpy(step[f"master/{op}/{i}"]), "P")
        seen[f"P/{op}/{i}"] = parameter.detach().numpy()
scale, rule = index["loss_scale"], index["optimizer"]
(scale * loss(network(torch.from_numpy(step["images"])), torch.from_numpy(step["labels"]))).backward()
for op, module in enumerate(modules):
    for i, parameter in enumerate(module.parameters()):
        place = f"{op}/{i}"
        seen[f"GP/{place}"] = to(parameter.grad, "GP").numpy()
        seen[f"master/{place}"], seen[f"velocity/{place}"] = step[f"master/{place}"], step[f"velocity/{place}"]  # zeros
        master = nn.Parameter(torch.from_numpy(step[f"master/{place}"]).clone())
        master.grad = torch.from_numpy(seen[f"GP/{place}"]) / scale
        settings = {"momentum": rule["momentum"], "weight_decay": rule["weight_decay"]}
        torch.optim.SGD([master], lr=rule["rate"], **settings).step()
        seen[f"next_master/{place}"] = master.detach().numpy()
np.savez(sys.argv[2], **seen)
