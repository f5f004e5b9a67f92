/** `npm run build`: everything that can run, and nothing is run. */
import { main, prepare } from "./prepare/prepare.mjs";

await main(() => prepare({}));
