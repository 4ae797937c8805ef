'use strict';

const express = require('express');

const app = express();
app.get('*', (request, response) => response.json({ hello: 'node', path: request.path }));
app.listen(Number(process.env.PORT || 8080), '127.0.0.1');
