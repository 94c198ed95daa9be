"""The differentiable rasteriser of 3D Gaussians: cameras, spherical harmonics, and one interface to three backends.

`rasterise.render` draws tensors of torch with gradients; `rasterise.render_array` draws a `Gaussians` of the medium
into pixels without torch. The backends are `oracle` (tiled pure torch), `compiled` (the kernels of native/splats) and
`cuda` (gsplat). Nothing here is imported until it is used.

Kerbl, Kopanas, Leimkuehler, Drettakis, "3D Gaussian Splatting for Real-Time Radiance Field Rendering", SIGGRAPH 2023,
arXiv 2308.04079; Zwicker, Pfister, van Baar, Gross, "EWA Splatting", IEEE TVCG 8(3), 2002.
"""
