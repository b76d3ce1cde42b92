// The operators' signatures. Their fake kernels and derivatives are registered in autograd.py.
//
// spatial_shapes is flat: the height and the width of the first level, those of the second and so on. `deterministic`
// asks for gradients with the same bits in every run; those of the CPU always have them.
#include <torch/csrc/stable/library.h>

STABLE_TORCH_LIBRARY_FRAGMENT(mask2former, m) {
  m.def(
      "ms_deform_attn(Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations, Tensor attention_weights)"
      " -> Tensor");
  m.def(
      "ms_deform_attn_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes, Tensor sampling_locations,"
      " Tensor attention_weights, bool deterministic=False) -> (Tensor, Tensor, Tensor)");
  m.def(
      "ms_deform_attn_fused(Tensor value, SymInt[] spatial_shapes, Tensor reference_points, Tensor sampling_offsets,"
      " Tensor attention_logits) -> Tensor");
  m.def(
      "ms_deform_attn_fused_backward(Tensor grad_output, Tensor value, SymInt[] spatial_shapes,"
      " Tensor reference_points, Tensor sampling_offsets, Tensor attention_logits, bool deterministic=False)"
      " -> (Tensor, Tensor, Tensor)");
  m.def("_limit_cpu_variant(int highest) -> int");
}
