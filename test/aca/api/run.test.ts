import "../on-aca.ts";
import "../../api/run.test.ts";
