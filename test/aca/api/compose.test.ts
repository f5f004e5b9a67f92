import "../on-aca.ts";
import "../../api/compose.test.ts";
