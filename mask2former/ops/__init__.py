"""Operators that PyTorch lacks. ``python -m mask2former.ops`` prints which of them are compiled, and for what."""

from mask2former.ops.ms_deform_attn import ms_deform_attn
from mask2former.ops.ms_deform_attn_fused import ms_deform_attn_fused
from mask2former.ops.reference import ms_deform_attn_fused_reference, ms_deform_attn_reference

__all__ = ["ms_deform_attn", "ms_deform_attn_fused", "ms_deform_attn_fused_reference", "ms_deform_attn_reference"]
