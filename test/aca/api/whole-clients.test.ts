import "../on-aca.ts";
import "../../api/whole-clients.test.ts";
