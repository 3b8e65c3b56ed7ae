// A small real server that knows nothing of Keelson: OpenTelemetry's default auto-instrumentation is loaded by `node --require`.
const express = require('express');

const app = express();
app.get('/videos/:id', (request, response) => response.json({ id: request.params.id }));
app.post('/videos', (request, response) => response.status(201).end());
app.get('/flaky', (request, response) => response.status(500).json({ error: 'on purpose' }));

const server = app.listen(0, '127.0.0.1', () => console.log(`listening on ${server.address().port}`));
process.on('SIGTERM', () => server.close(() => process.exit(0)));
