// What a program in another language sees of the server: `node client.js PROTO ADDRESS` prints one JSON object.
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const [proto, address] = process.argv.slice(2);
const definition = loader.loadSync(proto, { keepCase: true, longs: Number, enums: String, defaults: true });
const { TranslationService } = grpc.loadPackageDefinition(definition).translation.v1;
const client = new TranslationService(address, grpc.credentials.createInsecure());
const pair = { source_language_code: "en", target_language_code: "de" };

function call(method, request) {
  return new Promise((resolve) =>
    client[method](request, { deadline: Date.now() + 60_000 }, (error, answer) =>
      resolve(error ? { code: error.code, details: error.details } : answer)
    )
  );
}

function stream(texts) {
  return new Promise((resolve, reject) => {
    const found = [];
    const call = client.TranslateStream();
    call.on("data", (answer) => (found[answer.index] = answer.translation.translated_text));
    call.on("error", reject);
    call.on("end", () => resolve(found));
    call.write({ settings: pair });
    for (const text of texts) call.write({ contents: [text] });
    call.end();
  });
}

async function main() {
  const glossary_config = { entries: [{ source_term: "station", target_term: "ZORKWILL" }] };
  const result = {
    models: await call("ListModels", {}),
    translate: await call("Translate", { ...pair, contents: ["Good morning.", "", "Where is the station?"] }),
    html: await call("Translate", { ...pair, contents: ["<p>Good <b>morning</b>.</p>"], mime_type: "text/html" }),
    glossary: await call("Translate", { ...pair, contents: ["Where is the station?"], glossary_config }),
    refused: await call("Translate", { ...pair, target_language_code: "xx", contents: ["a"] }),
    detect: await call("DetectLanguage", { content: "Ich habe heute leider keine Zeit." }),
    stream: await stream(Array.from({ length: 50 }, (_, i) => `This is number ${i}.`)),
    many: await Promise.all(
      Array.from({ length: 50 }, (_, i) => call("Translate", { ...pair, contents: [`This is number ${i}.`] }))
    ),
  };
  console.log(JSON.stringify(result));
  client.close();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
