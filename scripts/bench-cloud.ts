/** `npm run bench:cloud`: the compiled test/bench/cloud.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/bench/cloud.js", true);
