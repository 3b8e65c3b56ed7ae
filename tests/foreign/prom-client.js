// The yardstick of `make bench`: prom-client observes the samples in memory, as an application that counts for itself does.
// Prints samples a second, one line a run.
const { Histogram, Registry } = require('prom-client');

const [samples, runs] = process.argv.slice(2).map(Number);
const labels = [];
for (let route = 0; route < 20; route++) {
  for (const [method, status] of [['GET', 200], ['GET', 404], ['POST', 201], ['GET', 500]]) {
    labels.push({ http_request_method: method, http_route: `/route/${route}/:id`, http_response_status_code: status });
  }
}
const which = new Uint8Array(65536).map(() => Math.random() * labels.length);
const seconds = new Float64Array(65536).map(() => Math.exp(Math.random() * 6) / 1000);

for (let run = 0; run < runs; run++) {
  const histogram = new Histogram({
    name: 'http_server_request_duration_seconds',
    help: 'Duration of requests',
    labelNames: ['http_request_method', 'http_route', 'http_response_status_code'],
    registers: [new Registry()],
  });
  const start = process.hrtime.bigint();
  for (let i = 0; i < samples; i++) {
    histogram.observe(labels[which[i & 65535]], seconds[i & 65535]);
  }
  const elapsed = Number(process.hrtime.bigint() - start) / 1e9;
  console.log(samples / elapsed);
}
