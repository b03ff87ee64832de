// A workload that uses @grpc/grpc-js and knows nothing of SPIFFE but its protobuf, which it is given
// in WORKLOAD_PROTO. What it is told and what it prints is said in ../README.md.
'use strict';

const crypto = require('crypto');
const readline = require('readline');
const tls = require('tls');
const grpc = require('@grpc/grpc-js');
const protoLoader = require('@grpc/proto-loader');

const loaded = protoLoader.loadSync(process.env.WORKLOAD_PROTO, {
  keepCase: true,
  includeDirs: process.env.PROTO_INCLUDE ? [process.env.PROTO_INCLUDE] : [],
});
const Client = grpc.loadPackageDefinition(loaded).SpiffeWorkloadAPI;

// How long to wait after a watch that ended, before the next.
const RETRY_MS = 200;

async function fetch(audience) {
  const client = connect();
  await attempt('x509', async () => sayX509(await first(client.FetchX509SVID({}, header()))));
  await attempt('x509_bundles', async () => {
    const { bundles } = await first(client.FetchX509Bundles({}, header()));
    say('x509_bundles', { bundles: mapped(bundles, base64Certificates) });
  });
  await attempt('jwt_bundles', async () => {
    sayJwtBundles(await first(client.FetchJWTBundles({}, header())));
  });
  await attempt('jwt', async () => {
    for (const svid of await tokens(client, audience)) {
      await attempt('validate', () => validate(client, svid, `${audience}-of-another`));
    }
  });
  client.close();
}

async function watch(audience) {
  const client = connect();
  const streams = new Map();
  const open = (method, onMessage) => {
    const stream = client[method]({}, header());
    streams.set(method, stream);
    stream.on('data', onMessage);
    stream.on('end', () => {});
    // grpc-js reports a clean end as a status of OK and any other as an error.
    stream.on('status', (status) => {
      if (!streams.has(method)) return;
      say('lost', { code: grpc.status[status.code], retries: true });
      setTimeout(() => streams.has(method) && open(method, onMessage), RETRY_MS);
    });
    stream.on('error', () => {});
  };
  open('FetchX509SVID', sayX509);
  open('FetchJWTBundles', sayJwtBundles);
  // Each line is a wish for a token, to be checked with bundles that are as new as it is.
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    await attempt('jwt', () => tokens(client, audience));
  }
  for (const [method, stream] of streams) {
    streams.delete(method);
    stream.cancel();
  }
  client.close();
}

async function serve(peer) {
  const source = await newSource();
  const server = tls.createServer({ requestCert: true, rejectUnauthorized: true, ...source.options() });
  source.onUpdate = () => server.setSecureContext(source.options());
  server.on('tlsClientError', (error) => say('refused', { error: error.message }));
  server.on('secureConnection', (socket) => {
    socket.on('error', () => {});
    const found = spiffeId(socket);
    if (found !== peer) {
      say('refused', { error: `the peer is ${found}` });
      socket.destroy();
      return;
    }
    socket.once('data', (text) => {
      say('peer', { leaf: leaf(socket) });
      socket.end(text);
    });
  });
  await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
  say('listening', { port: server.address().port });
  for await (const _ of readline.createInterface({ input: process.stdin })) continue;
  server.close();
  source.close();
}

async function dial(port, peer) {
  const source = await newSource();
  say('ready', {});
  for await (const line of readline.createInterface({ input: process.stdin })) {
    await ask(source, Number(port), peer, line).catch((error) => {
      say('refused', { error: error.message });
    });
  }
  source.close();
}

function ask(source, port, peer, text) {
  return new Promise((resolve, reject) => {
    const socket = tls.connect({
      host: '127.0.0.1',
      port,
      ...source.options(),
      checkServerIdentity: (_, certificate) => {
        const found = idOf(certificate);
        return found === peer ? undefined : new Error(`the peer is ${found}`);
      },
    }, () => socket.write(`${text}\n`));
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
    socket.once('data', (reply) => {
      say('reply', { text: reply.toString().trim(), leaf: leaf(socket) });
      socket.end();
      resolve();
    });
  });
}

// The first SVID and its bundle, kept up to date.
function newSource() {
  const client = connect();
  return new Promise((resolve, reject) => {
    const source = {
      onUpdate: () => {},
      options: () => source.current,
      close: () => {
        source.closed = true;
        source.stream.cancel();
        client.close();
      },
    };
    const open = () => {
      source.stream = client.FetchX509SVID({}, header());
      source.stream.on('data', ({ svids: [svid] }) => {
        source.current = {
          key: pem('PRIVATE KEY', svid.x509_svid_key),
          cert: certificates(svid.x509_svid).map((der) => pem('CERTIFICATE', der)).join(''),
          ca: certificates(svid.bundle).map((der) => pem('CERTIFICATE', der)),
        };
        source.onUpdate();
        resolve(source);
      });
      source.stream.on('end', () => {});
      source.stream.on('error', (error) => {
        if (!source.closed) setTimeout(open, RETRY_MS);
        reject(error);
      });
    };
    open();
  });
}

// Fetches tokens, has each checked by the agent, and checks it with the keys of its trust domain.
async function tokens(client, audience) {
  const { svids } = await unary(client, 'FetchJWTSVID', { audience: [audience] });
  const { bundles } = await first(client.FetchJWTBundles({}, header()));
  for (const { spiffe_id: id, svid } of svids) {
    const { spiffe_id: byAgent, claims } = await validate(client, svid, audience);
    if (claims.fields.sub.stringValue !== id) throw new Error('the claims are of another');
    say('jwt', { id, token: svid, locally: check(svid, audience, bundles), by_agent: byAgent });
  }
  return svids.map(({ svid }) => svid);
}

function validate(client, svid, audience) {
  return unary(client, 'ValidateJWTSVID', { audience, svid });
}

function check(svid, audience, bundles) {
  const [header64, claims64, signature] = svid.split('.');
  const { alg, kid } = JSON.parse(Buffer.from(header64, 'base64url'));
  const claims = JSON.parse(Buffer.from(claims64, 'base64url'));
  const domain = claims.sub.split('/').slice(0, 3).join('/');
  const jwk = JSON.parse(bundles[domain]).keys.find((key) => key.kid === kid);
  const key = crypto.createPublicKey({ key: jwk, format: 'jwk' });
  const valid = crypto.verify('sha256', Buffer.from(`${header64}.${claims64}`),
    { key, dsaEncoding: 'ieee-p1363' }, Buffer.from(signature, 'base64url'));
  const now = Date.now() / 1000;
  if (alg !== 'ES256' || !valid || claims.exp <= now || !claims.aud.includes(audience)) {
    throw new Error('the token is not valid');
  }
  return claims.sub;
}

function connect() {
  return new Client(process.env.SPIFFE_ENDPOINT_SOCKET, grpc.credentials.createInsecure());
}

function header() {
  const metadata = new grpc.Metadata();
  metadata.set('workload.spiffe.io', 'true');
  return metadata;
}

function first(stream) {
  return new Promise((resolve, reject) => {
    stream.once('data', (message) => {
      resolve(message);
      stream.cancel();
    });
    stream.once('end', () => reject(new Error('the stream ended with no message')));
    stream.on('error', reject);
  });
}

function unary(client, method, request) {
  return new Promise((resolve, reject) => {
    client[method](request, header(), { deadline: Date.now() + 20_000 }, (error, reply) => {
      if (error) reject(error);
      else resolve(reply);
    });
  });
}

async function attempt(call, action) {
  try {
    await action();
  } catch (error) {
    say('failed', { call, code: grpc.status[error.code] ?? error.message });
  }
}

function sayX509({ svids, federated_bundles: federated }) {
  const bundles = mapped(federated, base64Certificates);
  for (const svid of svids) bundles[svid.spiffe_id.split('/')[2]] = base64Certificates(svid.bundle);
  say('x509', {
    svids: svids.map(({ spiffe_id: id, x509_svid: chain, x509_svid_key: key }) => {
      const certificate = new crypto.X509Certificate(certificates(chain)[0]);
      if (!certificate.checkPrivateKey(crypto.createPrivateKey({ key, format: 'der', type: 'pkcs8' }))) {
        throw new Error('the key is of another certificate');
      }
      return { id, chain: base64Certificates(chain) };
    }),
    bundles,
  });
}

function sayJwtBundles({ bundles }) {
  const ids = (bundle) => JSON.parse(bundle).keys.map(({ kid }) => kid).sort();
  say('jwt_bundles', { bundles: mapped(bundles, ids) });
}

function mapped(bundles, of) {
  const entries = Object.entries(bundles ?? {});
  return Object.fromEntries(entries.map(([id, bundle]) => [id.replace('spiffe://', ''), of(bundle)]));
}

function base64Certificates(bytes) {
  return certificates(bytes).map((der) => der.toString('base64'));
}

// Certificates in DER, one after the other: each is a sequence with a length of two bytes.
function certificates(bytes) {
  const result = [];
  for (let start = 0; start < bytes.length;) {
    if (bytes.readUInt16BE(start) !== 0x3082) throw new Error('not a certificate');
    const end = start + 4 + bytes.readUInt16BE(start + 2);
    result.push(bytes.subarray(start, end));
    start = end;
  }
  return result;
}

function pem(label, der) {
  const lines = der.toString('base64').match(/.{1,64}/g).join('\n');
  return `-----BEGIN ${label}-----\n${lines}\n-----END ${label}-----\n`;
}

function leaf(socket) {
  return socket.getPeerX509Certificate().raw.toString('base64');
}

function spiffeId(socket) {
  return idOf(socket.getPeerCertificate());
}

function idOf({ subjectaltname: names }) {
  return names.replace(/^URI:/, '');
}

function say(event, fields) {
  process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);
}

const [command, ...rest] = process.argv.slice(2);
({ fetch, watch, serve, dial })[command](...rest).then(() => say('closed', {}));
