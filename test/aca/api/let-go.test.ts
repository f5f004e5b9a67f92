/** All on Azure that an answered removal has let go. */
import "../on-aca.ts";

await import("../../api/let-go.test.ts");
