// Writes beside each *.tokenizer.json what Hugging Face's library makes of texts.json; make.py says
// how to run it.
const fs = require("fs");
const path = require("path");
const { Tokenizer } = require("tokenizers");

async function expect(tokenizer, item) {
  tokenizer.disableTruncation();
  if (item.max) tokenizer.setTruncation(item.max, { strategy: "LongestFirst" });
  const options = { addSpecialTokens: item.special };
  const got = await tokenizer.encode(item.text, item.pair ?? null, options);
  return {
    ids: got.getIds(),
    types: got.getTypeIds(),
    special: got.getSpecialTokensMask(),
    text: await tokenizer.decode(got.getIds(), true),
  };
}

async function main() {
  const texts = JSON.parse(fs.readFileSync(path.join(__dirname, "texts.json")));
  for (const file of fs.readdirSync(__dirname).sort()) {
    if (!file.endsWith(".tokenizer.json")) continue;
    const tokenizer = Tokenizer.fromFile(path.join(__dirname, file));
    const out = [];
    for (const item of texts) out.push(JSON.stringify(await expect(tokenizer, item)));
    fs.writeFileSync(path.join(__dirname, file.replace(".tokenizer.", ".expected.")),
      "[\n" + out.join(",\n") + "\n]\n");
  }
}

main();
