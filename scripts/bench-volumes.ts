/** `npm run bench:volumes`: the compiled test/bench/volumes.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/bench/volumes.js", { isApart: true });
