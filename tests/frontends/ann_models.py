"""Small versions of the plain networks people have, written the way they are written elsewhere."""

import torch
import torch.nn.functional as F
from qcfs_models import quantised_vgg
from torch import nn


def conv_norm(inputs, outputs, kernel=3, stride=1, groups=1, act=nn.ReLU):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
        act(inplace=True) if act else nn.Identity(),
    )


class BasicBlock(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False), nn.BatchNorm2d(outputs)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False), nn.BatchNorm2d(outputs)
        self.relu, self.downsample = nn.ReLU(inplace=True), None
        if stride > 1 or inputs != outputs:
            self.downsample = conv_norm(inputs, outputs, 1, stride, act=None)

    def forward(self, x):
        identity = x if self.downsample is None else self.downsample(x)
        out = self.relu(self.bn1(self.conv1(x)))
        out = self.bn2(self.conv2(out))
        out += identity
        return self.relu(out)


def resnet(widths, blocks=2, classes=10):
    layers, inputs = [conv_norm(3, widths[0])], widths[0]
    for i, width in enumerate(widths):
        for block in range(blocks):
            layers.append(BasicBlock(inputs, width, 2 if i and not block else 1))
            inputs = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, classes))


class VGG(nn.Module):
    def __init__(self, pool=nn.MaxPool2d):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(True), pool(2, 2),
            nn.Conv2d(8, 12, 3, padding=1), nn.BatchNorm2d(12), nn.ReLU(True), pool(2, 2),
        )  # fmt: skip
        self.classifier = nn.Sequential(
            nn.Linear(12 * 4 * 4, 24), nn.ReLU(True), nn.Dropout(), nn.Linear(24, 24), nn.ReLU(True), nn.Linear(24, 5)
        )

    def forward(self, x):
        return self.classifier(torch.flatten(F.adaptive_avg_pool2d(self.features(x), 4), 1))


class InvertedResidual(nn.Module):
    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.use_res = stride == 1 and inputs == outputs
        self.conv = nn.Sequential(
            conv_norm(inputs, 3 * inputs, 1, act=nn.ReLU6),
            conv_norm(3 * inputs, 3 * inputs, 3, stride, 3 * inputs, act=nn.ReLU6),
            conv_norm(3 * inputs, outputs, 1, act=None),
        )

    def forward(self, x):
        return x + self.conv(x) if self.use_res else self.conv(x)


class SqueezeExcite(nn.Module):
    """As in MobileNetV3 and EfficientNet."""

    def __init__(self, channels):
        super().__init__()
        self.fc1, self.fc2 = nn.Conv2d(channels, 4, 1), nn.Conv2d(4, channels, 1)

    def forward(self, x):
        scale = self.fc2(F.relu(self.fc1(F.adaptive_avg_pool2d(x, 1))))
        return F.hardsigmoid(scale, inplace=True) * x


class DenseNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.layers = nn.ModuleList(
            nn.Sequential(nn.BatchNorm2d(n), nn.ReLU(), nn.Conv2d(n, 4, 3, padding=1)) for n in (6, 10, 14)
        )
        self.last = nn.Linear(18, 5)

    def forward(self, x):
        features = [self.first(x)]
        for layer in self.layers:
            features.append(layer(torch.cat(features, 1)))
        return self.last(F.relu(torch.cat(features, 1)).mean([2, 3]))


class Attention(nn.Module):
    """Attention as timm writes it."""

    def __init__(self, dim, heads=2):
        super().__init__()
        self.heads, self.scale = heads, (dim // heads) ** -0.5
        self.qkv, self.proj = nn.Linear(dim, 3 * dim), nn.Linear(dim, dim)

    def forward(self, x):
        B, N, C = x.shape
        qkv = self.qkv(x).reshape(B, N, 3, self.heads, C // self.heads).permute(2, 0, 3, 1, 4)
        q, k, v = qkv[0], qkv[1], qkv[2]
        attn = (q @ k.transpose(-2, -1)) * self.scale
        return self.proj((attn.softmax(dim=-1) @ v).transpose(1, 2).reshape(B, N, C))


class FusedAttention(Attention):
    def forward(self, x):
        q, k, v = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(x).chunk(3, dim=-1))
        return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2))


class MHA(nn.Module):
    def __init__(self, dim, heads=2):
        super().__init__()
        self.attn = nn.MultiheadAttention(dim, heads, batch_first=True)

    def forward(self, x):
        return self.attn(x, x, x, need_weights=False)[0]


class Block(nn.Module):
    def __init__(self, dim, attention):
        super().__init__()
        self.norm1, self.attn, self.norm2 = nn.LayerNorm(dim), attention(dim), nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, 2 * dim), nn.GELU(), nn.Dropout(0.1), nn.Linear(2 * dim, dim))

    def forward(self, x):
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class ViT(nn.Module):
    def __init__(self, attention=Attention, head=None, dim=8, depth=2):
        super().__init__()
        self.patch = nn.Conv2d(3, dim, 4, 4)
        self.token, self.position = nn.Parameter(torch.randn(1, 1, dim)), nn.Parameter(torch.randn(1, 17, dim))
        self.blocks = nn.Sequential(*(Block(dim, attention) for _ in range(depth)))
        self.norm, self.head = nn.LayerNorm(dim), head or nn.Linear(dim, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).transpose(1, 2)
        x = torch.cat((self.token.expand(x.shape[0], -1, -1), x), dim=1) + self.position
        return self.head(self.norm(self.blocks(x))[:, 0])


class Recurrent(nn.Module):
    """A classifier on the last state of a recurrent layer; `batch_first` or time first."""

    def __init__(self, kind, batch_first=True, head=None):
        super().__init__()
        self.batch_first = batch_first
        self.rnn, self.head = kind(6, 8, num_layers=2, batch_first=batch_first), head or nn.Linear(8, 5)

    def forward(self, x):
        if self.batch_first:
            return self.head(self.rnn(x)[0][:, -1, :])
        state = self.rnn(x.permute(1, 0, 2))[1]
        return self.head((state[0] if isinstance(state, tuple) else state)[-1])


class Transformer(nn.Module):
    """Time first, as torch's own encoder has it by default."""

    def __init__(self):
        super().__init__()
        layer = nn.TransformerEncoderLayer(6, 2, 12, activation="gelu", norm_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), nn.Linear(6, 5)

    def forward(self, x):
        return self.head(self.encoder(x.transpose(0, 1)).mean(0))


class Mixer(nn.Module):
    def __init__(self):
        super().__init__()
        self.patch, self.norm = nn.Conv2d(3, 8, 4, 4), nn.LayerNorm(8)
        self.tokens = nn.Sequential(nn.Linear(16, 12), nn.GELU(), nn.Linear(12, 16))
        self.channels = nn.Sequential(nn.Linear(8, 12), nn.GELU(), nn.Linear(12, 8))
        self.head = nn.Linear(8, 5)

    def forward(self, x):
        x = self.patch(x).flatten(2).permute(0, 2, 1)
        x = x + self.tokens(self.norm(x).permute(0, 2, 1)).permute(0, 2, 1)
        return self.head((x + self.channels(self.norm(x))).mean(1))


class Inception(nn.Module):
    def __init__(self):
        super().__init__()
        self.b1, self.b2, self.b3 = conv_norm(3, 4, 1), conv_norm(3, 4, 3), conv_norm(3, 4, 5)
        self.b4 = nn.Sequential(nn.MaxPool2d(3, 1, 1), conv_norm(3, 4, 1))
        self.pool, self.head = nn.AdaptiveAvgPool2d((3, 3)), nn.Linear(144, 5)

    def forward(self, x):
        x = torch.cat([branch(x) for branch in (self.b1, self.b2, self.b3, self.b4)], dim=1)
        return self.head(self.pool(x).view(x.size(0), -1))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.down, self.middle = conv_norm(3, 6), conv_norm(6, 12)
        self.up, self.last = nn.ConvTranspose2d(12, 6, 2, stride=2), nn.Conv2d(12, 2, 1)

    def forward(self, x):
        skip = self.down(x)
        x = self.up(self.middle(F.max_pool2d(skip, 2)))
        x = F.pad(x, [0, skip.shape[3] - x.shape[3], 0, skip.shape[2] - x.shape[2]])
        return self.last(torch.cat([skip, x], 1))


class TwoInputs(nn.Module):
    def __init__(self):
        super().__init__()
        self.image, self.series, self.head = nn.Linear(768, 8), nn.Linear(54, 8), nn.Linear(8, 5)

    def forward(self, x, y):
        a, b = F.relu(self.image(x.flatten(1))), self.series(y.reshape(len(y), -1)).relu()
        return self.head(a + b), torch.cosine_similarity(a, b, dim=1).unsqueeze(1)


class Shared(nn.Module):
    """One layer used again and again, and a decoder tied to its encoder."""

    def __init__(self):
        super().__init__()
        self.encoder, self.again, self.act = nn.Linear(54, 8), nn.Linear(8, 8), nn.ReLU()
        self.decoder = nn.Linear(8, 54)
        self.decoder.weight = nn.Parameter(torch.randn(54, 8))
        self.tied = self.encoder

    def forward(self, x):
        x = self.encoder(x.flatten(1))
        for _ in range(3):
            x = self.act(self.again(x))
        return self.decoder(x), F.linear(x, self.tied.weight.t())


def series_net(*pooling):
    return nn.Sequential(
        nn.Conv1d(9, 8, 3, padding=1), nn.BatchNorm1d(8), nn.ReLU(), *pooling, nn.Conv1d(8, 6, 2, stride=2), nn.ReLU(),
        nn.Flatten(), nn.Linear(6 if pooling else 18, 5),
    )  # fmt: skip


def relu_tail(inputs):
    return nn.Sequential(nn.Linear(inputs, 16), nn.ReLU(), nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5))


def parametrized():
    return nn.Sequential(
        nn.Flatten(),
        nn.utils.parametrizations.weight_norm(nn.Linear(54, 8)),
        nn.ReLU(),
        nn.utils.parametrizations.spectral_norm(nn.Linear(8, 5)),
    )


MODELS = {
    "VGG": (VGG, "image", True),
    "VGG, average pooling": (lambda: VGG(nn.AvgPool2d), "image", True),
    "VGG, QCFS activations": (quantised_vgg, "image", True),
    "ResNet": (lambda: resnet((6, 8), 1), "image", True),
    "MobileNetV2": (
        lambda: nn.Sequential(
            conv_norm(3, 6, act=nn.ReLU6), InvertedResidual(6, 6, 1), InvertedResidual(6, 8, 2),
            conv_norm(8, 12, 1, act=nn.ReLU6), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(), nn.Linear(12, 5),
        ), "image", True),
    "MobileNetV3": (
        lambda: nn.Sequential(
            conv_norm(3, 6, act=nn.Hardswish), SqueezeExcite(6), conv_norm(6, 8, act=nn.Hardswish),
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
        ), "image", True),
    "DenseNet": (DenseNet, "image", True),
    "Inception": (Inception, "image", True),
    "U-Net": (UNet, "image", True),
    "Vision Transformer": (ViT, "image", False),
    "Vision Transformer, fused attention": (lambda: ViT(FusedAttention), "image", False),
    "Vision Transformer, nn.MultiheadAttention": (lambda: ViT(MHA), "image", False),
    "Vision Transformer, then ReLU layers": (lambda: ViT(MHA, relu_tail(8)), "image", True),
    "Vision Transformer, products, then ReLU layers": (lambda: ViT(Attention, relu_tail(8)), "image", True),
    "MLP-Mixer": (Mixer, "image", False),
    "1-d convolutions": (series_net, "series", True),
    "1-d convolutions, average pooling": (lambda: series_net(nn.AvgPool1d(2)), "series", True),
    "1-d convolutions, max pooling": (lambda: series_net(nn.MaxPool1d(2)), "series", True),
    "MLP": (lambda: nn.Sequential(nn.Flatten(), relu_tail(54)), "series", True),
    "LSTM": (lambda: Recurrent(nn.LSTM), "rows", False),
    "LSTM, then ReLU layers": (lambda: Recurrent(nn.LSTM, head=relu_tail(8)), "rows", True),
    "GRU, time first": (lambda: Recurrent(nn.GRU, batch_first=False), "rows", False),
    "RNN, then ReLU layers": (lambda: Recurrent(nn.RNN, False, relu_tail(8)), "rows", True),
    "nn.TransformerEncoder": (Transformer, "rows", False),
    "two inputs, two outputs": (TwoInputs, "image series", False),
    "shared layers, tied weights": (Shared, "series", True),
    "parametrizations": (parametrized, "series", True),
}  # fmt: skip
"""By name: how to make it, its inputs, and whether a part of it runs on a chip."""

INPUTS = {"image": (3, 16, 16), "series": (9, 6), "rows": (9, 6)}
