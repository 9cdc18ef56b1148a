import json

import flax.linen as nn
import jax
import jax.numpy as jnp
import pytest
from jax import lax

from jaxderm import cost, systems
from jaxderm.models import decoders, encoders
from jaxderm.models.layers import Conv, ConvTranspose, DepthwiseConv
from jaxderm.models.segmenter import Segmenter
from jaxderm.systems import __main__ as program

# Trainable and all (SPEC 1.2 to 1.8, 2.5).
SIZES = {
  'yang2021/UNet': (487_289, 488_761),
  'yang2021/UNetPlusPlus': (5_156_593, 5_162_065),
  'yang2021/EfficientUNetPlusPlus': (6_653_133, 6_681_396),
  'yang2021/EfficientNetUNet': (5_965_997, 5_994_260),
  'yang2021/XceptionUNetPlusPlus': (38_370_009, 38_431_449),
  'yang2021/SegNet': (33_377_283, 33_393_157),
  'yang2021/HRNet': (9_504_578, 9_524_036),
  'yang2021/EfficientNetInception': (4_867_361, 4_899_152),
  'yang2021/EfficientNetXception': (4_577_309, 4_605_572),
  # The second is the paper's; the first is without the means and variances of
  # the encoder and of the decoder's 2 (256 + 128 + 64 + 32 + 16) channels.
  'wei2020/UNet': (31_378_945, 31_378_945),
  'wei2020/UVGG16': (19_029_585 - 1_984, 19_029_585),
  'wei2020/UResNeXt50': (32_063_185 - 68_224 - 1_984, 32_063_185),
  'wei2020/UDenseNet121': (12_144_977 - 83_648 - 1_984, 12_144_977),
  'wei2020/UDenseNet121Literal': (13_693_265 - 83_648 - 1_984, 13_693_265),
  'wei2020/UMobileNetV1': (8_336_337 - 21_888 - 1_984, 8_336_337),
  'wei2020/UMobileNetV1Literal': (8_327_121 - 21_888 - 1_984, 8_327_121),
  # SPEC 4.2 and 4.3, with two classes; the second with the means and variances
  # of the encoder, of the neck's 5.5 c + d / 2 channels at each level (c its
  # own, d those below), and of the decoder's c and 8.
  'zarrin2025/ResNet34RFE': (25_094_506, 25_094_506 + 17_024 + 2 * 3_816),
  'zarrin2025/ResNet50RFE': (82_279_210, 82_279_210 + 53_120 + 2 * 13_992),
  'zarrin2025/ResNet101RFE': (101_271_338, 101_271_338 + 105_344 + 2 * 13_992),
  # The encoder, the decoder, the head: of 4 d c + c + 18 c^2 + 2 c at each
  # level, and 2,648 at last.
  'zarrin2025/ResNet34': (23_615_402, 23_615_402 + 17_024 + 2 * 520),
  'zarrin2025/ResNet50': (59_438_186, 59_438_186 + 53_120 + 2 * 1_864),
  'zarrin2025/ResNet101': (78_430_314, 78_430_314 + 105_344 + 2 * 1_864),
  # Those of one output in SPEC 4.3, and 65; by hand in tests/test_gated.py.
  'zarrin2025/UNet': (31_043_521 + 65, 31_043_586 + 11_776),
  'zarrin2025/AttentionUNet': (34_878_573 + 65, 34_878_638 + 15_624),
  # By hand in tests/test_resunet.py.
  'zarrin2025/ResUNet': (8_221_058, 8_227_458),
  # SPEC 4.3; the bridge and four levels of two have means and variances.
  'zarrin2025/TransUNet': (105_322_146, 105_322_146 + 2 * 512 + 4 * 464),
  'zarrin2025/SwinUNet': (27_175_620, 27_175_620),
  # The encoder (17,024 statistics); levels of 9 in out + 9 out out for 768 to
  # 256, 384 to 128, 192 to 64, 128 to 32, 32 to 16; a scale and a bias for each
  # of 992 channels; 145 in the 3x3 of the logits.
  'le2020/UResNet34': (
    21_284_672 + 3_149_568 + 1_984 + 145,
    24_436_369 + 17_024 + 1_984,
  ),
}


def logits(network, side=(64, 64)):
  image = jax.ShapeDtypeStruct((2, *side, 3), jnp.float32)
  return jax.eval_shape(
    lambda x: network.init_with_output(jax.random.key(0), x)[0], image
  )


def test_every_system_has_a_size():
  """Those that classify: in tests/test_classification_systems.py."""
  assert set(SIZES) == {
    name
    for name, system in systems.SYSTEMS.items()
    if system.task == 'segmentation'
  }


@pytest.mark.parametrize('name', SIZES)
def test_size(name):
  assert cost.parameters(systems.build(name), 64) == SIZES[name]


@pytest.mark.parametrize('name', SIZES)
def test_network_takes_any_size(name):
  classes = 2 if name.startswith('zarrin2025') else 1
  shape = (2, 65, 50, classes)
  assert logits(systems.build(name), (65, 50)).shape == shape


@pytest.mark.parametrize(
  'name, expected',
  [
    ('yang2021/UNet', 'imagenet_mean'),
    ('yang2021/EfficientUNetPlusPlus', 'none'),
  ],
)
def test_rows_say_what_the_input_needs(name, expected):
  assert systems.SYSTEMS[name].normalisation == expected


@pytest.mark.parametrize(
  'name, changes, expected',
  [
    ('yang2021/UNetPlusPlus', {'up': 'transpose'}, 5_092_705),
    ('yang2021/UNetPlusPlus', {'dense': False}, 4_980_337),
    ('yang2021/EfficientUNetPlusPlus', {'nested': False}, 5_965_997),
    ('yang2021/EfficientNetUNet', {'conv': 'separable'}, 4_577_309),
    ('yang2021/SegNet', {'unpool': 'nearest'}, 33_377_283),
    ('wei2020/UNet', {'norm': True}, 31_390_721),
    # That with B1, less 1,282,500 of B1's encoder, with 928,416 of B0's.
    (
      'yang2021/EfficientUNetPlusPlus',
      {'encoder': 'EfficientNetB0'},
      6_299_049,
    ),
  ],
)
def test_changes(name, changes, expected):
  assert cost.parameters(systems.build(name, **changes), 64)[0] == expected


def test_activation_of_the_decoder():
  network = systems.build('yang2021/UNet', activation='prelu')
  # Two slopes for each channel of four levels: 2 (64 + 32 + 16 + 8).
  assert cost.parameters(network, 64)[0] == 487_289 + 240


# In MiB; the paper's are files, of which the last three hold more than that.
@pytest.mark.parametrize(
  'name, expected, more',
  [
    ('wei2020/UNet', 119.7, 0),
    ('wei2020/UVGG16', 72.6, 0),
    ('wei2020/UMobileNetV1', 31.8, 0),
    ('wei2020/UMobileNetV1Literal', 31.8, 0),
    ('wei2020/UResNeXt50', 122.3, 3),
    ('wei2020/UDenseNet121', 46.3, 2),
    ('wei2020/UDenseNet121Literal', 52.2, -4),  # which no file can hold
  ],
)
def test_printed_mebibytes(name, expected, more):
  mebibytes = SIZES[name][1] * 4 / 2**20
  assert round(mebibytes, 1) == expected
  assert systems.SYSTEMS[name].printed_mib == round(mebibytes) + more


def test_without_norm_nothing_is_normalised():
  network = systems.build('wei2020/UVGG16', norm=False)
  trainable, everything = cost.parameters(network, 64)
  # A scale and a bias for each of the 992 channels.
  assert trainable == everything == SIZES['wei2020/UVGG16'][0] - 1_984


def test_pruned_unetpp_builds_nothing_deeper():
  network = systems.build('yang2021/UNetPlusPlus', depth=2)
  assert network.encoder.taps == ('stage1', 'stage2', 'stage3')
  assert network.multiple == 4
  heads = systems.build('yang2021/UNetPlusPlus', depth=2, deep_supervision=True)
  assert [x.shape for x in logits(heads)] == [(2, 64, 64, 1)] * 2


@pytest.mark.parametrize(
  'kind',
  [
    name
    for name, make in systems.KINDS.items()
    if make.__module__ == 'jaxderm.kinds.segmentation'
  ],
)
def test_any_decoder_on_an_efficientnet(kind):
  network = systems.build(kind, encoder='EfficientNetB0', classes=2)
  assert logits(network).shape == (2, 64, 64, 2)


def test_unet_on_an_encoder_has_a_width_for_each_doubling():
  network = systems.build('unet', encoder='EfficientNetB0')
  assert network.decoder.widths == (128, 64, 32, 16)
  taps = (*network.encoder.taps, 'top_activation')
  network = systems.build('unet', encoder='EfficientNetB0', taps=taps)
  assert network.decoder.widths == (256, 128, 64, 32, 16)
  assert network.multiple == 32


def test_an_encoder_may_be_a_module():
  small = encoders.Plain8(widths=(2, 3), taps=('stage1', 'stage2'))
  assert logits(systems.build('unet', encoder=small)).shape == (2, 64, 64, 1)


@pytest.mark.parametrize(
  'name, changes, message',
  [
    ('yang2021/UNett', {}, "Did you mean 'yang2021/UNet'.*There are: .*unetpp"),
    ('EfficientUNetPlus', {}, "Did you mean 'yang2021/EfficientUNetPlusPlus'"),
    ('nonsense', {}, r"no system is called 'nonsense'\. There are: yang2021"),
    ('yang2021/UNet', {'activaton': 'mish'}, "Did you mean 'activation'"),
    (
      'yang2021/UNet',
      {'dense': True},
      'There are: encoder, taps, origin, widths',
    ),
    (
      'yang2021/UNet',
      {'encoder': 'EfficientNet0'},
      "Did you mean 'EfficientNetB0'",
    ),
    ('unet', {}, 'needs encoder=.*EfficientNetB0'),
    (
      'yang2021/EfficientNetUNet',
      {'conv': 'xception'},
      'expected one of plain, inception, separable',
    ),
    ('yang2021/UNetPlusPlus', {'depth': 5}, 'expected 1 to 4'),
  ],
)
def test_what_does_not_exist_is_refused(name, changes, message):
  with pytest.raises(ValueError, match=message):
    systems.build(name, **changes)


class One(nn.Module):
  """A network of one layer, in the place of a Segmenter."""

  layer: nn.Module

  @nn.compact
  def __call__(self, image, train=False):
    return self.layer(image)


# On 8x8x3. Products: 64 places, 9 taps, 3 channels, 4 filters; and so on. A
# transposed convolution uses each of its taps once for each place it enters.
@pytest.mark.parametrize(
  'layer, expected',
  [
    (Conv(4, 3), 64 * 9 * 3 * 4),
    (Conv(4, 3, stride=2), 16 * 9 * 3 * 4),
    (Conv(4, 1), 64 * 3 * 4),
    (Conv(6, 3, groups=3), 64 * 9 * 6),
    (DepthwiseConv(5), 64 * 25 * 3),
    (DepthwiseConv(5, stride=2), 16 * 25 * 3),
    (ConvTranspose(4, 2), 64 * 4 * 3 * 4),
    (ConvTranspose(4, 3), 64 * 9 * 3 * 4),
    (nn.ConvTranspose(4, (3, 3), (2, 2)), 64 * 9 * 3 * 4),
  ],
)
def test_multiply_adds_of_a_layer(layer, expected):
  assert cost.multiply_adds(One(layer), 8) == expected


def test_multiply_adds_of_loops_and_conditions():
  class Looped(nn.Module):
    @nn.compact
    def __call__(self, image, train=False):
      kernel = self.param('kernel', nn.initializers.ones, (3, 3))

      def again(x, _):
        return x @ kernel, None

      x, _ = lax.scan(again, image, None, length=5)
      return lax.cond(
        x.sum() > 0, lambda x: x @ kernel @ kernel, lambda x: x, x
      )

  assert cost.multiply_adds(Looped(), 8) == (5 + 2) * 64 * 9


def test_multiply_adds_of_a_unet():
  """48.17e9 with 2x2 transposed convolutions at 256 pixels (SPEC 4.3)."""
  network = Segmenter(
    encoders.Plain8(widths=(64, 128, 256, 512, 1024)),
    decoders.UNet((512, 256, 128, 64), 'transpose'),
  )
  assert round(cost.multiply_adds(network) / 1e9, 2) == 48.17


ENTRIES = [
  'name',
  'paper',
  'task',
  'trainable',
  'all',
  'all_without_metadata',
  'multiply_adds',
  'printed',
  'difference',
  'mib',
  'printed_mib',
  'thop_gmacs',
  'printed_gmacs',
]


SHOWN = (
  'yang2021/UNet',
  'zarrin2025/ResNet34RFE',
  'yang2021/EfficientUNetPlusPlus',
  'yang2021/EfficientNetUNet',
  'wei2020/UNet',
  'zarrin2025/AttentionUNet',
)


def test_json_and_table(capsys, monkeypatch):
  assert program.SYSTEMS is systems.SYSTEMS  # all are shown; here, some
  some = {name: systems.SYSTEMS[name] for name in SHOWN}
  monkeypatch.setattr(program, 'SYSTEMS', some)
  program.main(['--json'])
  rows = {row['name']: row for row in json.loads(capsys.readouterr().out)}
  assert tuple(rows) == SHOWN
  assert all(list(row) == ENTRIES for row in rows.values())
  row = rows['yang2021/EfficientUNetPlusPlus']
  assert (row['paper'], row['task']) == ('yang2021', 'segmentation')
  assert (row['printed'], row['difference']) == (6_653_549, -416)
  assert rows['yang2021/UNet']['difference'] == 0
  assert rows['yang2021/EfficientNetUNet']['difference'] is None
  row = rows['wei2020/UNet']
  assert (row['mib'], row['printed_mib']) == (119.7, 120)
  assert row['thop_gmacs'] is row['printed_gmacs'] is None
  row = rows['zarrin2025/AttentionUNet']
  assert row['thop_gmacs'] == row['printed_gmacs'] == 66.6318
  some = {name: systems.SYSTEMS[name] for name in SHOWN[:2]}
  monkeypatch.setattr(program, 'SYSTEMS', some)
  program.main([])
  header, *lines = capsys.readouterr().out.splitlines()
  assert header.split() == ENTRIES
  assert lines[0].split()[:5] == [
    'yang2021/UNet',
    'yang2021',
    'segmentation',
    '487,289',
    '488,761',
  ]
  assert lines[0].split()[-4:] == ['1.9', '-', '-', '-']
  assert lines[1].split()[-4:] == ['95.8', '-', '9.1505', '9.046']
