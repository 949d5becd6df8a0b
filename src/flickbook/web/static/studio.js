// Loads the custom elements of the studio's page.

import "./form.js";
import "./guides.js";
import "./stage.js";
import "./queue.js";
import "./drafts.js";
import "./gallery.js";
import "./models.js";
import "./tune.js";
import "./shots/fields.js";
import "./shots/timeline.js";
import "./shots/panel.js";
import "./shots/takes.js";
