/** `npm run generate`: code from proto/, documents from code. With `--baseline` the baseline of `buf breaking` only. */
import { generate, renewBaseline } from "./generated-code.ts";
import { writeDocuments } from "./generated-documents.ts";

const { code, output } = await (process.argv.includes("--baseline") ? renewBaseline() : generate());
process.stderr.write(output);
process.exitCode = code;
if (code === 0 && !process.argv.includes("--baseline")) {
  await writeDocuments();
}
