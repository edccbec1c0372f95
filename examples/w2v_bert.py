"""A recogniser of Transformers in a sweep: wav2vec2 in its later form, w2v-BERT, which takes filterbanks as sweeps do.

Needs ``pip install 'cspbench[transformers]'``. Publish the class from a package of your own:

    [project.entry-points."cspbench.recognisers"]
    w2v_bert = "w2v_bert:W2vBert"

Then ``model: {name: w2v_bert, options: {layers: 4}}`` in a sweep file trains it, from random weights, and prunes it by
every method.
"""

from __future__ import annotations

from pydantic import Field
from transformers import Wav2Vec2BertConfig, Wav2Vec2BertForCTC

from cspbench.asr.recognisers import CtcBase, CtcOutput, valid
from cspbench.corpora.batches import Batch
from cspbench.hyper import Hyperparameters
from cspbench.spec import FeatureSpec, ModelSpec


class W2vBertOptions(Hyperparameters):
    """What a sweep file may give under ``model.options``."""

    layers: int = Field(2, ge=1, le=48, description="of the encoder")
    width: int = Field(32, ge=8, le=4096, multiple_of=4, description="of the encoder; its 4 heads share it")


class W2vBert(CtcBase):
    """w2v-BERT with a CTC head; it sees the whole utterance, so it has no streaming step."""

    summary = "w2v-BERT of Transformers, CTC, whole utterances"
    source = "Chung et al. 2021 (arXiv:2108.06209)"
    Options = W2vBertOptions

    def __init__(self, spec: ModelSpec, features: FeatureSpec, units: int) -> None:
        super().__init__(features.mels)
        options = self.options(spec)
        config = Wav2Vec2BertConfig(
            vocab_size=units,
            feature_projection_input_dim=features.mels * features.stack,
            hidden_size=options.width,
            num_hidden_layers=options.layers,
            num_attention_heads=4,
            intermediate_size=4 * options.width,
            conv_depthwise_kernel_size=7,
            apply_spec_augment=False,  # the sweep's own training does that
            layerdrop=0.0,
        )
        self.network = Wav2Vec2BertForCTC(config)
        self.set_dropout(spec.dropout)

    def outputs(self, batch: Batch) -> CtcOutput:
        """Logits of every step."""
        mask = valid(batch.frames, batch.features.shape[1]).long()
        return CtcOutput(self.network(batch.features, attention_mask=mask).logits, batch.frames)
