// Record what TensorFlow.js itself computes with the built-in model `coco`, for tests/test_tfjs.py.
//
//   npm pack @vladmandic/human@3.3.6 && tar xzf vladmandic-human-3.3.6.tgz
//   npm install @tensorflow/tfjs-core@4.22.0 @tensorflow/tfjs-converter@4.22.0 @tensorflow/tfjs-backend-cpu@4.22.0
//   node record_tfjs.js package/models > coco_tfjs.json
const fs = require('fs');
const path = require('path');
const tf = require('@tensorflow/tfjs-core');
require('@tensorflow/tfjs-backend-cpu');
const { loadGraphModel } = require('@tensorflow/tfjs-converter');

const EVERY = 997;

async function main(folder) {
  await tf.setBackend('cpu');
  const json = JSON.parse(fs.readFileSync(path.join(folder, 'centernet.json')));
  const weights = fs.readFileSync(path.join(folder, 'centernet.bin'));
  const model = await loadGraphModel({
    load: async () => ({
      modelTopology: json.modelTopology,
      weightSpecs: json.weightsManifest.flatMap((group) => group.weights),
      weightData: weights.buffer.slice(weights.byteOffset, weights.byteOffset + weights.length),
    }),
  });
  const pixels = Float32Array.from({ length: 512 * 512 * 3 }, (_, index) => (index * index) % 251);
  const image = tf.tensor4d(pixels, [1, 512, 512, 3]);
  const outputs = model.execute(image, ['tower_0/keypoints', 'tower_0/wh']);
  const [hm, wh] = outputs.map((output) => Array.from(output.dataSync()).filter((_, index) => index % EVERY === 0));
  console.log(JSON.stringify({ tfjs: tf.version_core, every: EVERY, hm, wh }));
}

main(process.argv[2]);
