/** `npm run demo:aca`: the compiled test/aca/demo.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/aca/demo.js");
