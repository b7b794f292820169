// ollama_client.cjs URL STEP [JSON]: one step with the client library of Ollama; prints JSON.
const { Ollama } = require("ollama");

const [url, step, argument] = process.argv.slice(2);
const options = argument ? JSON.parse(argument) : {};
const ollama = new Ollama({ host: url, headers: options.headers });

async function all(iterator) {
  const parts = [];
  for await (const part of await iterator) parts.push(part);
  return parts;
}

async function failure(promise) {
  try {
    await promise;
  } catch (error) {
    return { name: error.name, message: error.message, status: error.status_code ?? null };
  }
  return null;
}

const steps = {
  generate: () => ollama.generate(options.request),
  generate_stream: () => all(ollama.generate({ ...options.request, stream: true })),
  chat: () => ollama.chat(options.request),
  chat_stream: () => all(ollama.chat({ ...options.request, stream: true })),
  embed: () => ollama.embed(options.request),
  embeddings: () => ollama.embeddings(options.request),
  list: () => ollama.list(),
  ps: () => ollama.ps(),
  show: () => ollama.show(options.request),
  version: () => ollama.version(),
  copy: () => ollama.copy(options.request),
  delete: () => ollama.delete(options.request),
  pull: () => ollama.pull(options.request),
  pull_stream: () => all(ollama.pull({ ...options.request, stream: true })),
  chat_failure: () => failure(ollama.chat(options.request)),
  generate_stream_failure: () =>
    failure(all(ollama.generate({ ...options.request, stream: true }))),
  // Reads two parts of an answer without end, then goes away.
  async abort() {
    const stream = await ollama.chat({ ...options.request, stream: true });
    const parts = [];
    const error = await failure((async () => {
      for await (const part of stream) {
        parts.push(part);
        if (parts.length === 2) stream.abort();
      }
    })());
    return { parts: parts.length, error: error.name };
  },
};

steps[step]().then((result) => console.log(JSON.stringify(result)));
