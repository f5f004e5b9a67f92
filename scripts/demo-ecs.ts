/** `npm run demo:ecs`: the compiled test/ecs/demo.ts. */
import { runCompiled } from "./compiled.ts";

await runCompiled("test/ecs/demo.js");
