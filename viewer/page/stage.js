// The canvas: Gaussians drawn by Spark in a scene of three.js, and a camera that turns around them.

import * as THREE from "three";
import { OrbitControls } from "three/addons/controls/OrbitControls.js";
import { ExtSplats, SparkRenderer, SplatMesh, utils } from "@sparkjsdev/spark";

const FIELD = 45; // degrees, of the smaller side of the window
const AXES = {
  "y-down": { up: [0, -1, 0], from: [0, 0, -1] },
  y: { up: [0, 1, 0], from: [0, 0, 1] },
  z: { up: [0, 0, 1], from: [0, -1, 0] },
};
const HARMONICS = { sh1: "sh1Texture", sh2: "sh2Texture", sh3a: "sh3TextureA", sh3b: "sh3TextureB" };

export class Stage {
  // Throws where the browser has no WebGL 2.
  constructor(place, scene) {
    this.bounds = scene;
    this.renderer = new THREE.WebGLRenderer({ antialias: false });
    this.renderer.setPixelRatio(Math.min(window.devicePixelRatio, 2));
    place.append(this.renderer.domElement);
    this.scene = new THREE.Scene();
    this.camera = new THREE.PerspectiveCamera(FIELD, 1, scene.radius / 200, scene.radius * 100);
    // As the scenes were trained: 0.3 square pixels more of each Gaussian, sorted by depth.
    this.spark = new SparkRenderer({
      renderer: this.renderer,
      accumExtSplats: true,
      preBlurAmount: 0.3,
      blurAmount: 0,
      sortRadial: false,
      enableLod: false,
      onDirty: () => this.ask(),
    });
    this.scene.add(this.spark);
    this.mesh = null;
    this.due = true;
    window.addEventListener("resize", () => this.resize());
    this.resize();
  }

  ask() {
    this.due = true;
  }

  get settled() {
    return !this.due && !this.spark.dirty && !this.spark.sorting && !this.spark.sortDirty;
  }

  resize() {
    const [width, height] = [window.innerWidth, window.innerHeight];
    this.renderer.setSize(width, height);
    this.camera.aspect = width / height;
    const tangent = Math.tan((FIELD * Math.PI) / 360);
    this.camera.fov = width < height ? (Math.atan((tangent * height) / width) * 360) / Math.PI : FIELD;
    this.camera.updateProjectionMatrix();
    this.ask();
  }

  // The first view, turned by so many degrees around the axis that is up, and lifted.
  look(up, azimuth = 0, elevation = 0, zoom = 1) {
    const axes = AXES[up] ?? AXES["y-down"];
    const [above, from] = [new THREE.Vector3(...axes.up), new THREE.Vector3(...axes.from)];
    const side = above.clone().cross(from);
    const centre = new THREE.Vector3(...this.bounds.centre);
    const lift = Math.max(-89, Math.min(89, elevation));
    from.applyAxisAngle(side, (-lift * Math.PI) / 180).applyAxisAngle(above, (azimuth * Math.PI) / 180);
    const distance = this.bounds.radius / Math.sin((FIELD * Math.PI) / 360) / zoom;
    this.controls?.dispose();
    this.camera.up.copy(above);
    this.camera.position.copy(centre).addScaledVector(from, distance);
    this.controls = new OrbitControls(this.camera, this.renderer.domElement);
    this.controls.target.copy(centre);
    this.controls.addEventListener("change", () => this.ask());
    this.controls.update();
    this.ask();
  }

  background(name) {
    this.scene.background = new THREE.Color(name);
    this.ask();
  }

  // Replace the Gaussians by those of a frame, whose planes are the words of Spark's own arrays.
  show({ count, planes, harmonics }) {
    if (this.splats?.numSplats !== count || this.n_harmonics !== harmonics.length) this.make(count, harmonics.length);
    planes.forEach((plane, k) => this.fill(this.splats.extArrays[k], this.splats.textures[k], plane));
    Object.entries(HARMONICS).slice(0, harmonics.length).forEach(([name, texture], k) => {
      this.fill(this.splats.extra[name], this.splats.extra[texture]?.value, harmonics[k]);
    });
    this.mesh.updateVersion();
    this.ask();
  }

  fill(array, texture, plane) {
    array.set(plane);
    if (texture) texture.needsUpdate = true; // made when Spark draws for the first time
  }

  make(count, n_harmonics) {
    if (this.mesh) {
      this.scene.remove(this.mesh);
      this.mesh.dispose();
    }
    const room = utils.getTextureSize(count).maxSplats * 4;
    const extra = {};
    for (const name of Object.keys(HARMONICS).slice(0, n_harmonics)) extra[name] = new Uint32Array(room);
    const extArrays = [new Uint32Array(room), new Uint32Array(room)];
    this.splats = new ExtSplats({ extArrays, numSplats: count, extra });
    this.mesh = new SplatMesh({ extSplats: this.splats, enableLod: false });
    this.n_harmonics = n_harmonics;
    this.scene.add(this.mesh);
  }

  draw() {
    if (!this.due) return;
    this.due = false;
    this.renderer.render(this.scene, this.camera);
  }
}
