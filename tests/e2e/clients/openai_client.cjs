// Drives the openai SDK as an application would: `node openai_client.cjs SCENARIO ARGUMENTS`, where
// ARGUMENTS is JSON with `url` and what the scenario reads. Prints one JSON document.
"use strict";
const { OpenAI } = require("openai");

async function collect(stream) {
  const chunks = [];
  for await (const chunk of stream) chunks.push(chunk);
  return chunks;
}

const scenarios = {
  chat: (client, { request }) => client.chat.completions.create(request),

  stream: async (client, { request }) =>
    collect(await client.chat.completions.create({ ...request, stream: true })),

  // The SDK's own helper, which puts the chunks together and checks them on the way.
  helper: async (client, { request }) => {
    const contents = [];
    const runner = client.chat.completions.stream(request);
    runner.on("content", (delta) => contents.push(delta));
    const completion = await runner.finalChatCompletion();
    return { completion, contents };
  },

  // Tools that the SDK calls by itself until the model answers without.
  tools: async (client, { request, result }) => {
    const seen = [];
    const runner = client.chat.completions.runTools({
      ...request,
      tools: request.tools.map((tool) => ({
        type: "function",
        function: {
          ...tool.function,
          parse: JSON.parse,
          function: (parameters) => { seen.push(parameters); return result; },
        },
      })),
    }, { maxChatCompletions: 1 });
    await runner.done();
    return { seen, messages: runner.messages };
  },

  completion: (client, { request }) => client.completions.create(request),
  completion_stream: async (client, { request }) =>
    collect(await client.completions.create({ ...request, stream: true })),
  embeddings: (client, { request }) => client.embeddings.create(request),
  models: async (client) => collect(await client.models.list()),
  model: (client, { id }) => client.models.retrieve(id),

  error: async (client, { request, path }) => {
    try {
      await client.post(path, { body: request });
      return null;
    } catch (error) {
      return {
        name: error.constructor.name,
        status: error.status,
        code: error.code,
        param: error.param,
        type: error.type,
        message: error.message,
        requestId: error.headers?.get("x-starlane-request-id"),
      };
    }
  },

  // Reads a few chunks, then goes away.
  abort: async (client, { request, after }) => {
    const controller = new AbortController();
    const stream = await client.chat.completions.create({ ...request, stream: true },
      { signal: controller.signal });
    let n = 0;
    for await (const chunk of stream) if (chunk && ++n === after) controller.abort();
    return n;
  },

  // Goes away before anything has come, once the request runs.
  abort_whole: async (client, { url, request }) => {
    const controller = new AbortController();
    const answer = client.chat.completions.create(request, { signal: controller.signal })
      .then(() => null, (error) => error.constructor.name);
    while ((await (await fetch(url + "/health")).json()).running === 0);
    controller.abort();
    return answer;
  },
};

const [scenario, text] = process.argv.slice(2);
const given = JSON.parse(text);
const client = new OpenAI({
  baseURL: given.url + "/v1",
  apiKey: given.key ?? "none",
  maxRetries: given.retries ?? 0,
});
scenarios[scenario](client, given).then(
  (result) => { process.stdout.write(JSON.stringify(result)); },
  (error) => { console.error(error); process.exitCode = 1; },
);
