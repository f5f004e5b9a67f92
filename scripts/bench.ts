/** `npm run bench`: the compiled test/bench/bench.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/bench/bench.js", true);
