"""Architectures for pictures, from papers and small public repositories, written anew at small sizes."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from architecture import Setup, adam, architecture, digits, kinds, photos, pixels, sgd
from torch import Tensor, nn


@architecture("pytorch/examples mnist: two convolutions, dropout, log-softmax, Adadelta at 1.0")
def mnist_adadelta() -> Setup:
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25),
        nn.Flatten(), nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10), nn.LogSoftmax(1),
    )  # fmt: skip
    x = (digits(64) - 0.1307) / 0.3081
    return Setup(model, (x, kinds(x, 10)), F.nll_loss, partial(torch.optim.Adadelta, lr=1.0))


@architecture("pytorch tutorial: LeNet on CIFAR-10, SGD 1e-3 with momentum 0.9")
def cifar_lenet() -> Setup:
    model = nn.Sequential(
        nn.Conv2d(3, 6, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU(), nn.Linear(84, 10),
    )  # fmt: skip
    x = photos(64)
    return Setup(model, (x, kinds(x, 10)), nn.CrossEntropyLoss(), sgd(lr=1e-3, momentum=0.9))


class Basic(nn.Module):
    def __init__(self, c_in: int, c: int, stride: int = 1):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(c_in, c, 3, stride, 1, bias=False), nn.BatchNorm2d(c)
        self.conv2, self.bn2 = nn.Conv2d(c, c, 3, 1, 1, bias=False), nn.BatchNorm2d(c)
        same = stride == 1 and c_in == c
        self.shortcut = (
            nn.Sequential()
            if same
            else nn.Sequential(nn.Conv2d(c_in, c, 1, stride, bias=False), nn.BatchNorm2d(c))
        )

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x))))) + self.shortcut(x))


@architecture("kuangliu/pytorch-cifar: ResNet for CIFAR-10 at a quarter of the width, SGD 0.1")
def cifar_resnet() -> Setup:
    stages = [Basic(16, 16), Basic(16, 16), Basic(16, 32, 2), Basic(32, 32), Basic(32, 64, 2), Basic(64, 64)]
    model = nn.Sequential(
        nn.Conv2d(3, 16, 3, 1, 1, bias=False), nn.BatchNorm2d(16), nn.ReLU(), *stages, nn.AdaptiveAvgPool2d(1),
        nn.Flatten(), nn.Linear(64, 10),
    )  # fmt: skip
    x = photos(64)
    loss = nn.CrossEntropyLoss()
    return Setup(model, (x, kinds(x, 10)), loss, sgd(lr=0.1, momentum=0.9, weight_decay=5e-4))


@architecture("Springenberg et al. 2014: All-CNN, SGD 0.01")
def all_cnn() -> Setup:
    layers: list[nn.Module] = [nn.Dropout(0.2)]
    for c_in, c, stride in ((3, 32, 1), (32, 32, 1), (32, 32, 2), (32, 64, 1), (64, 64, 1), (64, 64, 2)):
        layers += [nn.Conv2d(c_in, c, 3, stride, 1), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(64, 10, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    x = photos(64)
    return Setup(model, (x, kinds(x, 10)), nn.CrossEntropyLoss(), sgd(lr=0.01, momentum=0.9))


class Vae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fc1, self.fc21, self.fc22 = nn.Linear(784, 400), nn.Linear(400, 20), nn.Linear(400, 20)
        self.fc3, self.fc4 = nn.Linear(20, 400), nn.Linear(400, 784)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = F.relu(self.fc1(x.flatten(1)))
        mu, logvar = self.fc21(h), self.fc22(h)
        z = mu + torch.randn_like(mu) * (0.5 * logvar).exp()
        return torch.sigmoid(self.fc4(F.relu(self.fc3(z)))), mu, logvar


def vae_loss(outputs: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
    recon, mu, logvar = outputs
    bce = F.binary_cross_entropy(recon, x.flatten(1), reduction="sum")
    return bce - 0.5 * torch.sum(1 + logvar - mu**2 - logvar.exp())


@architecture("pytorch/examples vae: pixels as they are, summed loss, Adam 1e-3")
def vae() -> Setup:
    x = digits(128)
    return Setup(Vae(), (x, x), vae_loss, adam(lr=1e-3))


class ConvVae(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.LeakyReLU(), nn.Conv2d(16, 32, 3, 2, 1),
            nn.BatchNorm2d(32), nn.LeakyReLU(), nn.Flatten(),
        )  # fmt: skip
        self.mu, self.logvar, self.up = nn.Linear(2048, 32), nn.Linear(2048, 32), nn.Linear(32, 2048)
        self.decoder = nn.Sequential(
            nn.Unflatten(1, (32, 8, 8)), nn.ConvTranspose2d(32, 16, 3, 2, 1, 1), nn.BatchNorm2d(16), nn.LeakyReLU(),
            nn.ConvTranspose2d(16, 3, 3, 2, 1, 1), nn.Tanh(),
        )  # fmt: skip

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = self.encoder(x)
        mu, logvar = self.mu(h), self.logvar(h)
        return self.decoder(self.up(mu + torch.randn_like(mu) * (0.5 * logvar).exp())), mu, logvar


@architecture("AntixK/PyTorch-VAE: convolutional VAE, Adam 5e-3, weight of the divergence 2.5e-4")
def conv_vae() -> Setup:
    def loss(outputs: tuple[Tensor, Tensor, Tensor], x: Tensor) -> Tensor:
        recon, mu, logvar = outputs
        return F.mse_loss(recon, x) - 2.5e-4 * 0.5 * (1 + logvar - mu**2 - logvar.exp()).sum(1).mean()

    x = pixels(64) * 2 - 1
    return Setup(ConvVae(), (x, x), loss, adam(lr=5e-3))


@architecture("autoencoder of pixels with a sigmoid at its end, squared error, Adam 1e-3")
def pixel_autoencoder() -> Setup:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 128), nn.ReLU(), nn.Linear(128, 32), nn.ReLU(), nn.Linear(32, 128), nn.ReLU(),
        nn.Linear(128, 784), nn.Sigmoid(),
    )  # fmt: skip
    x = digits(128)
    return Setup(model, (x, x.flatten(1)), nn.MSELoss(), adam(lr=1e-3))


def _dcgan_init(model: nn.Module) -> nn.Module:
    for m in model.modules():
        if isinstance(m, (nn.Conv2d, nn.ConvTranspose2d)):
            nn.init.normal_(m.weight, 0, 0.02)
        elif isinstance(m, nn.BatchNorm2d):
            nn.init.normal_(m.weight, 1, 0.02)
    return model


class Dcgan(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        g, d = 16, 16
        self.generator = nn.Sequential(
            nn.ConvTranspose2d(32, 4 * g, 4, 1, 0, bias=False), nn.BatchNorm2d(4 * g), nn.ReLU(),
            nn.ConvTranspose2d(4 * g, 2 * g, 4, 2, 1, bias=False), nn.BatchNorm2d(2 * g), nn.ReLU(),
            nn.ConvTranspose2d(2 * g, g, 4, 2, 1, bias=False), nn.BatchNorm2d(g), nn.ReLU(),
            nn.ConvTranspose2d(g, 3, 4, 2, 1, bias=False), nn.Tanh(),
        )  # fmt: skip
        self.discriminator = nn.Sequential(
            nn.Conv2d(3, d, 4, 2, 1, bias=False), nn.LeakyReLU(0.2), nn.Conv2d(d, 2 * d, 4, 2, 1, bias=False),
            nn.BatchNorm2d(2 * d), nn.LeakyReLU(0.2), nn.Conv2d(2 * d, 4 * d, 4, 2, 1, bias=False),
            nn.BatchNorm2d(4 * d), nn.LeakyReLU(0.2), nn.Conv2d(4 * d, 1, 4, 1, 0, bias=False), nn.Flatten(),
        )  # fmt: skip
        _dcgan_init(self)


def _d_loss(d: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    real, fake = d(batch[0]), d(batch[1])
    return F.binary_cross_entropy_with_logits(
        real, torch.ones_like(real)
    ) + F.binary_cross_entropy_with_logits(fake, torch.zeros_like(fake))


@architecture("pytorch/examples dcgan: the discriminator's step on real and generated pictures, Adam 2e-4")
def dcgan_discriminator() -> Setup:
    gan = Dcgan()
    fake = gan.generator(torch.randn(32, 32, 1, 1)).detach()
    return Setup(
        gan.discriminator, (pixels(32) * 2 - 1, fake), None, adam(lr=2e-4, betas=(0.5, 0.999)), step=_d_loss
    )


@architecture("pytorch/examples dcgan: the generator's step through a discriminator, Adam 2e-4")
def dcgan_generator() -> Setup:
    gan = Dcgan()
    for p in gan.discriminator.parameters():
        p.requires_grad_(False)

    def step(g: nn.Module, z: Tensor) -> Tensor:
        judged = gan.discriminator(g(z))
        return F.binary_cross_entropy_with_logits(judged, torch.ones_like(judged))

    return Setup(gan.generator, torch.randn(32, 32, 1, 1), None, adam(lr=2e-4, betas=(0.5, 0.999)), step=step)


@architecture(
    "the same discriminator trained on a generator's output given as the batch, labels of ones and zeros"
)
def discriminator_on_generated() -> Setup:
    gan = Dcgan()
    fake = gan.generator(torch.randn(32, 32, 1, 1)).detach()
    real = pixels(32) * 2 - 1
    y = torch.cat([torch.ones(32, 1), torch.zeros(32, 1)])
    return Setup(
        gan.discriminator,
        (torch.cat([real, fake]), y),
        nn.BCEWithLogitsLoss(),
        adam(lr=2e-4, betas=(0.5, 0.999)),
    )


@architecture(
    "eriklindernoren/PyTorch-GAN: MLP discriminator with a sigmoid, binary cross entropy, Adam 2e-4"
)
def mlp_discriminator() -> Setup:
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 512), nn.LeakyReLU(0.2), nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 1), nn.Sigmoid(),
    )  # fmt: skip
    generator = nn.Sequential(nn.Linear(64, 128), nn.LeakyReLU(0.2), nn.Linear(128, 784), nn.Tanh())
    x = torch.cat([digits(32).flatten(1) * 2 - 1, generator(torch.randn(32, 64)).detach()])
    y = torch.cat([torch.ones(32, 1), torch.zeros(32, 1)])
    return Setup(model, (x, y), nn.BCELoss(), adam(lr=2e-4, betas=(0.5, 0.999)))


class TimeBlock(nn.Module):
    def __init__(self, c_in: int, c: int, t: int):
        super().__init__()
        self.norm1, self.conv1 = nn.GroupNorm(8, c_in), nn.Conv2d(c_in, c, 3, 1, 1)
        self.time, self.norm2 = nn.Linear(t, c), nn.GroupNorm(8, c)
        self.conv2 = nn.Conv2d(c, c, 3, 1, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)
        self.skip = nn.Conv2d(c_in, c, 1) if c_in != c else nn.Identity()

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x))) + self.time(F.silu(t))[:, :, None, None]
        return self.skip(x) + self.conv2(F.silu(self.norm2(h)))


class DiffusionUNet(nn.Module):
    def __init__(self, c: int = 32):
        super().__init__()
        self.time = nn.Sequential(nn.Linear(c, 4 * c), nn.SiLU(), nn.Linear(4 * c, 4 * c))
        self.stem, self.c = nn.Conv2d(3, c, 3, 1, 1), c
        self.down1, self.down2 = TimeBlock(c, c, 4 * c), TimeBlock(c, 2 * c, 4 * c)
        self.mid = TimeBlock(2 * c, 2 * c, 4 * c)
        self.up2, self.up1 = TimeBlock(4 * c, c, 4 * c), TimeBlock(2 * c, c, 4 * c)
        self.norm, self.head = nn.GroupNorm(8, c), nn.Conv2d(c, 3, 3, 1, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        w = torch.exp(-torch.arange(self.c // 2) / (self.c // 2) * 9.2)
        a = t[:, None] * w
        t = self.time(torch.cat([a.sin(), a.cos()], 1))
        h1 = self.down1(self.stem(x), t)
        h2 = self.down2(F.avg_pool2d(h1, 2), t)
        m = self.mid(h2, t)
        u = F.interpolate(self.up2(torch.cat([m, h2], 1), t), scale_factor=2)
        return self.head(F.silu(self.norm(self.up1(torch.cat([u, h1], 1), t))))


@architecture(
    "Ho et al. 2020: DDPM's U-Net predicting the noise, pixels from 0 to 1 scaled inside, Adam 2e-4"
)
def ddpm_unet() -> Setup:
    alphas = (1 - torch.linspace(1e-4, 0.02, 1000)).cumprod(0)

    def step(net: nn.Module, x: Tensor) -> Tensor:
        x = 2 * x - 1
        t, noise = torch.randint(0, 1000, (len(x),)), torch.randn_like(x)
        a = alphas[t][:, None, None, None]
        return F.mse_loss(net(a.sqrt() * x + (1 - a).sqrt() * noise, t.float()), noise)

    return Setup(DiffusionUNet(), pixels(16), None, adam(lr=2e-4), step=step)


@architecture("the same U-Net called with a noisy picture and its time, as libraries do")
def diffusion_called_with_time() -> Setup:
    x, noise = photos(16), torch.randn(16, 3, 32, 32)
    t = torch.randint(0, 1000, (16,)).float()
    a = torch.rand(16, 1, 1, 1)
    return Setup(
        DiffusionUNet(), ((a.sqrt() * x + (1 - a).sqrt() * noise, t), noise), F.mse_loss, adam(lr=2e-4)
    )


class UNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()

        def double(a: int, b: int) -> nn.Sequential:
            return nn.Sequential(
                nn.Conv2d(a, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
                nn.Conv2d(b, b, 3, 1, 1, bias=False), nn.BatchNorm2d(b), nn.ReLU(inplace=True),
            )  # fmt: skip

        self.a, self.b, self.c = double(3, 16), double(16, 32), double(32, 64)
        self.up2, self.d2 = nn.ConvTranspose2d(64, 32, 2, 2), double(64, 32)
        self.up1, self.d1, self.out = nn.ConvTranspose2d(32, 16, 2, 2), double(32, 16), nn.Conv2d(16, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        a = self.a(x)
        b = self.b(F.max_pool2d(a, 2))
        c = self.c(F.max_pool2d(b, 2))
        b = self.d2(torch.cat([self.up2(c), b], 1))
        return self.out(self.d1(torch.cat([self.up1(b), a], 1)))


@architecture("milesial/Pytorch-UNet: pixels from 0 to 1 and a binary mask, RMSprop 1e-5, momentum 0.999")
def carvana_unet() -> Setup:
    x = pixels(8, size=48)
    y = (x.mean(1, keepdim=True) > 0.5).float()
    optimizer = partial(torch.optim.RMSprop, lr=1e-5, momentum=0.999, weight_decay=1e-8)
    return Setup(UNet(), (x, y), nn.BCEWithLogitsLoss(), optimizer, clip=1.0)


@architecture("inpainting: a network that takes a masked picture and its binary mask, Adam 1e-4")
def inpainting() -> Setup:
    class Fill(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.net = nn.Sequential(
                nn.Conv2d(4, 32, 3, 1, 1), nn.ELU(), nn.Conv2d(32, 32, 3, 2, 1), nn.ELU(),
                nn.Conv2d(32, 32, 3, 1, 2, 2), nn.ELU(), nn.Upsample(scale_factor=2), nn.Conv2d(32, 3, 3, 1, 1),
            )  # fmt: skip

        def forward(self, x: Tensor, hole: Tensor) -> Tensor:
            return self.net(torch.cat([x * (1 - hole), hole], 1))

    x = photos(16)
    hole = torch.zeros(16, 1, 32, 32)
    hole[:, :, 8:20, 10:22] = 1
    return Setup(Fill(), ((x, hole), x), F.l1_loss, adam(lr=1e-4))


@architecture(
    "pytorch/examples super_resolution: ESPCN, orthogonal weights, pixels from 0 to 1, Adam 1e-2 to 1e-3"
)
def espcn() -> Setup:
    model = nn.Sequential(
        nn.Conv2d(1, 64, 5, 1, 2), nn.ReLU(), nn.Conv2d(64, 64, 3, 1, 1), nn.ReLU(), nn.Conv2d(64, 32, 3, 1, 1),
        nn.ReLU(), nn.Conv2d(32, 4, 3, 1, 1), nn.PixelShuffle(2),
    )  # fmt: skip
    for i in (0, 2, 4):
        nn.init.orthogonal_(model[i].weight, nn.init.calculate_gain("relu"))
    nn.init.orthogonal_(model[6].weight)
    y = pixels(16, 1, 32)
    return Setup(model, (F.avg_pool2d(y, 2), y), nn.MSELoss(), adam(lr=1e-3))


@architecture("DnCNN: residual learning of noise, pixels from 0 to 1, Adam 1e-3")
def dncnn() -> Setup:
    layers: list[nn.Module] = [nn.Conv2d(1, 32, 3, 1, 1), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Conv2d(32, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    model = nn.Sequential(*layers, nn.Conv2d(32, 1, 3, 1, 1))
    x = pixels(16, 1)
    noise = 0.1 * torch.randn_like(x)
    return Setup(model, (x + noise, noise), nn.MSELoss(), adam(lr=1e-3))


@architecture("Redmon et al.: a small YOLO-like detector that divides its own pixels by 255, SGD 1e-3")
def yolo_like() -> Setup:
    class Detector(nn.Module):
        mean: Tensor
        std: Tensor

        def __init__(self) -> None:
            super().__init__()
            layers: list[nn.Module] = []
            for a, b in ((3, 16), (16, 32), (32, 64)):
                layers += [nn.Conv2d(a, b, 3, 2, 1, bias=False), nn.BatchNorm2d(b), nn.LeakyReLU(0.1)]
            self.body, self.head = nn.Sequential(*layers), nn.Conv2d(64, 10, 1)
            self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(1, 3, 1, 1))
            self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(1, 3, 1, 1))

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.body((x / 255 - self.mean) / self.std))

    def loss(out: Tensor, target: Tensor) -> Tensor:
        there = target[:, 4:5]
        box = ((out[:, :4].sigmoid() - target[:, :4]) ** 2 * there).sum() / there.sum()
        return box + F.binary_cross_entropy_with_logits(out[:, 4:], target[:, 4:])

    x = (pixels(16, size=64) * 255).round()
    target = torch.rand(16, 10, 8, 8)
    target[:, 4:] = (torch.rand(16, 6, 8, 8) < 0.1).float()
    return Setup(Detector(), (x, target), loss, sgd(lr=1e-3, momentum=0.9))


@architecture("CenterNet-like detection on pixels from 0 to 1: heat maps with a bias of -2.19, Adam 1.25e-4")
def centernet_like() -> Setup:
    class Center(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(3, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 32, 3, 2, 1),
                nn.BatchNorm2d(32), nn.ReLU(),
            )  # fmt: skip
            self.heat = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 4, 1))
            self.size = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1), nn.ReLU(), nn.Conv2d(32, 2, 1))
            nn.init.constant_(self.heat[2].bias, -2.19)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            h = self.body(x)
            return self.heat(h), self.size(h)

    def loss(out: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor]) -> Tensor:
        heat, size = out
        p, there = heat.sigmoid().clamp(1e-4, 1 - 1e-4), target[0]
        focal = -(there * (1 - p) ** 2 * p.log() + (1 - there) * p**2 * (1 - p).log()).sum() / there.sum()
        return focal + 0.1 * F.l1_loss(size, target[1])

    x = (pixels(16, size=64) - 0.45) / 0.25
    target = ((torch.rand(16, 4, 16, 16) < 0.01).float(), 4 + 2 * torch.rand(16, 2, 16, 16))
    return Setup(Center(), (x, target), loss, adam(lr=1.25e-4))


class Sine(nn.Module):
    def __init__(self, fan_in: int, fan_out: int, first: bool = False, omega: float = 30.0):
        super().__init__()
        self.linear, self.omega = nn.Linear(fan_in, fan_out), omega
        bound = 1 / fan_in if first else (6 / fan_in) ** 0.5 / omega
        nn.init.uniform_(self.linear.weight, -bound, bound)

    def forward(self, x: Tensor) -> Tensor:
        return torch.sin(self.omega * self.linear(x))


def grid(size: int) -> Tensor:
    t = torch.linspace(-1, 1, size)
    return torch.stack(torch.meshgrid(t, t, indexing="ij"), -1).view(-1, 2)


@architecture("Sitzmann et al. 2020: SIREN fits a picture, Adam 1e-4")
def siren() -> Setup:
    last = nn.Linear(64, 1)
    nn.init.uniform_(last.weight, -((6 / 64) ** 0.5) / 30, (6 / 64) ** 0.5 / 30)
    model = nn.Sequential(Sine(2, 64, True), *(Sine(64, 64) for _ in range(3)), last)
    return Setup(model, (grid(32), photos(1, 1).view(-1, 1)), F.mse_loss, adam(lr=1e-4))


@architecture("Tancik et al. 2020: Fourier features and a ReLU network fit a picture, Adam 1e-3")
def fourier_features() -> Setup:
    class Fourier(nn.Module):
        b: Tensor

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("b", 5 * torch.randn(2, 64))
            self.net = nn.Sequential(
                nn.Linear(128, 128),
                nn.ReLU(),
                nn.Linear(128, 128),
                nn.ReLU(),
                nn.Linear(128, 3),
                nn.Sigmoid(),
            )

        def forward(self, x: Tensor) -> Tensor:
            a = 2 * torch.pi * x @ self.b
            return self.net(torch.cat([a.sin(), a.cos()], 1))

    return Setup(
        Fourier(), (grid(32) / 2 + 0.5, pixels(1).flatten(2)[0].T.contiguous()), F.mse_loss, adam(lr=1e-3)
    )


@architecture("Mildenhall et al. 2020: a small NeRF of encoded positions and directions, Adam 5e-4")
def nerf() -> Setup:
    class Nerf(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.ModuleList([nn.Linear(63, 128), *(nn.Linear(128, 128) for _ in range(3))])
            self.second = nn.ModuleList([nn.Linear(191, 128), *(nn.Linear(128, 128) for _ in range(2))])
            self.sigma, self.colour, self.rgb = nn.Linear(128, 1), nn.Linear(128 + 27, 64), nn.Linear(64, 3)

        @staticmethod
        def encode(x: Tensor, bands: int) -> Tensor:
            waves = [f(2.0**i * x) for i in range(bands) for f in (torch.sin, torch.cos)]
            return torch.cat([x, *waves], -1)

        def forward(self, x: Tensor, d: Tensor) -> Tensor:
            points, h = self.encode(x, 10), self.encode(x, 10)
            for layer in self.first:
                h = F.relu(layer(h))
            h = torch.cat([h, points], -1)
            for layer in self.second:
                h = F.relu(layer(h))
            light = F.relu(self.colour(torch.cat([h, self.encode(d, 4).expand(*h.shape[:-1], 27)], -1)))
            rgb, sigma = self.rgb(light).sigmoid(), F.relu(self.sigma(h)).squeeze(-1)
            alpha = 1 - torch.exp(-sigma * 0.1)
            clear = torch.cumprod(torch.cat([torch.ones_like(alpha[:, :1]), 1 - alpha + 1e-10], 1), 1)[:, :-1]
            return ((alpha * clear)[..., None] * rgb).sum(1)

    d = F.normalize(torch.randn(128, 1, 3), dim=-1)
    x = torch.tensor([0.0, 0.0, 1.0]) + d * torch.linspace(0.2, 2, 16)[None, :, None]
    return Setup(Nerf(), ((x, d), (d.squeeze(1) + 1) / 2), F.mse_loss, adam(lr=5e-4))


@architecture("Chen et al. 2020: SimCLR, two views of each picture, LARS-free Adam 3e-4, temperature 0.07")
def simclr() -> Setup:
    model = nn.Sequential(
        nn.Conv2d(3, 32, 3, 1, 1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), Basic(32, 64, 2), Basic(64, 64, 2),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 32),
    )  # fmt: skip

    def step(net: nn.Module, views: tuple[Tensor, Tensor]) -> Tensor:
        z = F.normalize(net(torch.cat(views)), dim=1)
        n = len(z) // 2
        similar = z @ z.T / 0.07
        similar = similar.masked_fill(torch.eye(2 * n, dtype=torch.bool), -torch.inf)
        return F.cross_entropy(similar, torch.arange(2 * n).roll(n))

    x = photos(32)
    views = (x + 0.2 * torch.randn_like(x), x.flip(3) + 0.2 * torch.randn_like(x))
    return Setup(model, views, None, adam(lr=3e-4), step=step)


@architecture(
    "pytorch/examples siamese_network: two pictures, a sigmoid, binary cross entropy, Adadelta at 1.0"
)
def siamese() -> Setup:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.body = nn.Sequential(
                nn.Conv2d(1, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU(), Basic(16, 32, 2),
                nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            )  # fmt: skip
            self.head = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 1), nn.Sigmoid())

        def forward(self, a: Tensor, b: Tensor) -> Tensor:
            return self.head(torch.cat([self.body(a), self.body(b)], 1))

    a, b = digits(64), digits(64)
    y = (a.mean((1, 2, 3)) > b.mean((1, 2, 3))).float().unsqueeze(1)
    return Setup(Siamese(), ((a, b), y), nn.BCELoss(), partial(torch.optim.Adadelta, lr=1.0))


@architecture(
    "Tolstikhin et al. 2021, in the lucidrains way: MLP-Mixer with torch's default initialization, Adam 1e-3"
)
def mixer() -> Setup:
    class Residual(nn.Module):
        def __init__(self, width: int, inner: nn.Module):
            super().__init__()
            self.norm, self.inner = nn.LayerNorm(width), inner

        def forward(self, x: Tensor) -> Tensor:
            return x + self.inner(self.norm(x))

    class Patches(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Conv2d(3, 64, 4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.embed(x).flatten(2).transpose(1, 2)

    class Mean(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x.mean(1)

    layers: list[nn.Module] = [Patches()]
    for _ in range(4):
        tokens = nn.Sequential(nn.Conv1d(64, 128, 1), nn.GELU(), nn.Conv1d(128, 64, 1))
        layers += [
            Residual(64, tokens),
            Residual(64, nn.Sequential(nn.Linear(64, 128), nn.GELU(), nn.Linear(128, 64))),
        ]
    model = nn.Sequential(*layers, nn.LayerNorm(64), Mean(), nn.Linear(64, 10))
    x = photos(64)
    return Setup(model, (x, kinds(x, 10)), nn.CrossEntropyLoss(), adam(lr=1e-3))
