BEGIN TRANSACTION;
CREATE TABLE accounts (
    customer TEXT NOT NULL REFERENCES customers (customer),
    account TEXT NOT NULL,
    currency TEXT NOT NULL,
    source INTEGER NOT NULL,
    available INTEGER NOT NULL,
    held INTEGER NOT NULL,
    leased INTEGER NOT NULL,
    consumed INTEGER NOT NULL,
    expired INTEGER NOT NULL,
    revoked INTEGER NOT NULL,
    unaccounted INTEGER NOT NULL,
    alerted_percent INTEGER NOT NULL, -- highest threshold whose crossing stands in the journal
    wanted_until_ms INTEGER NOT NULL, -- until then somebody waits for what others hold
    PRIMARY KEY (customer, account)
) STRICT, WITHOUT ROWID;
INSERT INTO "accounts" VALUES('acme','budget:bud_0001:2026-11-24:','usd',-500,-80,0,0,580,0,0,0,100,0);
INSERT INTO "accounts" VALUES('acme','budget:bud_0002:2026-11:ada','usd',-400,-177,0,0,577,0,0,0,100,0);
INSERT INTO "accounts" VALUES('acme','grant:grant_0001','usd',-1000,390,0,30,580,0,0,0,-1,0);
INSERT INTO "accounts" VALUES('acme','grant:grant_0002','usd',-100,100,0,0,0,0,0,0,-1,0);
INSERT INTO "accounts" VALUES('beta','budget:bud_0003:lifetime:','usd',-900,800,0,20,80,0,0,0,-1,0);
INSERT INTO "accounts" VALUES('beta','budget:bud_0004:2026-11-24:','usd',-50,-30,0,0,80,0,0,0,100,0);
INSERT INTO "accounts" VALUES('beta','counted:usd','usd',-80,0,0,0,80,0,0,0,-1,0);
CREATE TABLE budgets (
    customer TEXT NOT NULL REFERENCES customers (customer),
    budget_id TEXT NOT NULL,
    node TEXT NOT NULL, -- 'kind:id', or '' for the customer itself
    depth INTEGER NOT NULL, -- nodes above it, for "outermost first"
    path TEXT NOT NULL, -- as people write it: 'acme/team:b'
    match TEXT NOT NULL, -- JSON object, keys sorted
    each_child TEXT NOT NULL,
    currency TEXT NOT NULL,
    cadence TEXT NOT NULL,
    limit_atoms INTEGER NOT NULL CHECK (limit_atoms >= 0),
    hard INTEGER NOT NULL,
    on_outage TEXT NOT NULL,
    thresholds TEXT NOT NULL, -- JSON list of percents
    version INTEGER NOT NULL,
    sequence INTEGER NOT NULL, clamp INTEGER NOT NULL DEFAULT 1,
    PRIMARY KEY (customer, budget_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "budgets" VALUES('acme','bud_0001','',0,'acme','{}','','usd','day',500,1,'deny','[100]',1,5,1);
INSERT INTO "budgets" VALUES('acme','bud_0002','team:data',2,'acme/department:ops/team:data','{}','user','usd','month',400,1,'deny','[100]',1,6,1);
INSERT INTO "budgets" VALUES('beta','bud_0003','',0,'beta','{}','','usd','lifetime',900,1,'deny','[100]',1,2,1);
INSERT INTO "budgets" VALUES('beta','bud_0004','',0,'beta','{}','','usd','day',50,0,'deny','[100]',1,3,1);
CREATE TABLE children (
    customer TEXT NOT NULL REFERENCES customers (customer),
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    first_seen_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, kind, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "children" VALUES('acme','user','ada',1795521600000);
CREATE TABLE customers (
    customer TEXT NOT NULL PRIMARY KEY,
    wallet TEXT NOT NULL CHECK (wallet IN ('required', 'none')),
    created_at_ms INTEGER NOT NULL,
    revision INTEGER NOT NULL, -- sequence of the last entry that changed a policy
    head_sequence INTEGER NOT NULL,
    head_hash TEXT NOT NULL,
    last_recorded_at_ms INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "customers" VALUES('acme','required',1795521600000,6,15,'0e5e71e45ba1c2d0190871165314a5ed4fbb02d7979c9fe553fbb56121d172e0',1795521660000);
INSERT INTO "customers" VALUES('beta','none',1795521600000,3,9,'28c3a43df2165db96cf9129486fc85e566a573af4bfdc9a8f124bc30bfd1c759',1795528860000);
CREATE TABLE entries (
    customer TEXT NOT NULL REFERENCES customers (customer),
    sequence INTEGER NOT NULL,
    kind TEXT NOT NULL,
    entry_key TEXT, -- NULL where nothing needs to be unique
    recorded_at_ms INTEGER NOT NULL,
    occurred_at_ms INTEGER NOT NULL,
    hash TEXT NOT NULL,
    body TEXT NOT NULL,
    PRIMARY KEY (customer, sequence)
) STRICT;
INSERT INTO "entries" VALUES('acme',1,'customer_added',NULL,1795521600000,1795521600000,'96ae5fae68b95392ab42e78cc9a10b2c6b80194ef060b361560580a041c35c28','{"actor":"ada@example.com","customer":"acme","facts":{"wallet":"required"},"key":"","kind":"customer_added","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":1,"v":1}');
INSERT INTO "entries" VALUES('beta',1,'customer_added',NULL,1795521600000,1795521600000,'03e533cec5c6d9db516f6b94f9a8f2eee5f9e7e4255040c8dacae4b916b912f5','{"actor":"ada@example.com","customer":"beta","facts":{"wallet":"none"},"key":"","kind":"customer_added","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":1,"v":1}');
INSERT INTO "entries" VALUES('acme',2,'nodes_added',NULL,1795521600000,1795521600000,'f50bb52f8996cd8dcafe3a969a45f77fc5b37815ba3ba82f7d3dd722b639688e','{"actor":"ada@example.com","customer":"acme","facts":{"paths":["department:ops","department:ops/team:data"]},"key":"","kind":"nodes_added","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":2,"v":1}');
INSERT INTO "entries" VALUES('acme',3,'grant_issued','grant_0001',1795521600000,1795521600000,'ce036dc9646d2dcb4831c5e03c219f12cdcef55d51f4c7345051380ce711c8ec','{"actor":"ada@example.com","customer":"acme","facts":{"currency":"usd","effective_at_ms":1795521600000,"grant_id":"grant_0001","issued_atoms":1000,"sequence":3},"key":"grant_0001","kind":"grant_issued","legs":[["grant:grant_0001","source","usd",-1000],["grant:grant_0001","available","usd",1000]],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":3,"v":1}');
INSERT INTO "entries" VALUES('acme',4,'grant_issued','grant_0002',1795521600000,1795521600000,'a4d3272101daf9731bdfff70d38f898e5cd7721f870250ede91f939621406f7d','{"actor":"ada@example.com","customer":"acme","facts":{"currency":"usd","effective_at_ms":1795521600000,"grant_id":"grant_0002","issued_atoms":100,"sequence":4},"key":"grant_0002","kind":"grant_issued","legs":[["grant:grant_0002","source","usd",-100],["grant:grant_0002","available","usd",100]],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":4,"v":1}');
INSERT INTO "entries" VALUES('acme',5,'budget_set','bud_0001@1',1795521600000,1795521600000,'bdc0fd710af1a596b24c9de8a395bcc0192efc2aefdaad397ed6b8cebc46960c','{"actor":"ada@example.com","customer":"acme","facts":{"budget_id":"bud_0001","cadence":"day","currency":"usd","limit_atoms":500,"thresholds_percent":[100]},"key":"bud_0001@1","kind":"budget_set","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":5,"v":1}');
INSERT INTO "entries" VALUES('acme',6,'budget_set','bud_0002@1',1795521600000,1795521600000,'f80f06cb4e86bfb703451e549ec14d810a9d6a179f06bfdbedcf3d32719a960c','{"actor":"ada@example.com","customer":"acme","facts":{"budget_id":"bud_0002","cadence":"month","currency":"usd","each":"user","limit_atoms":400,"node":{"id":"data","kind":"team"},"thresholds_percent":[100]},"key":"bud_0002@1","kind":"budget_set","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":6,"v":1}');
INSERT INTO "entries" VALUES('beta',2,'budget_set','bud_0003@1',1795521600000,1795521600000,'cbf2427b35795d0e281f12e70edaa3116c656b21c7f096f71e08a8294269c282','{"actor":"ada@example.com","customer":"beta","facts":{"budget_id":"bud_0003","cadence":"lifetime","currency":"usd","limit_atoms":900,"thresholds_percent":[100]},"key":"bud_0003@1","kind":"budget_set","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":2,"v":1}');
INSERT INTO "entries" VALUES('beta',3,'budget_set','bud_0004@1',1795521600000,1795521600000,'44575d1b1511f93dc8027262301fbab36b75f83eb128494b49ad30fda13ab023','{"actor":"ada@example.com","customer":"beta","facts":{"budget_id":"bud_0004","cadence":"day","currency":"usd","hard":false,"limit_atoms":50,"thresholds_percent":[100]},"key":"bud_0004@1","kind":"budget_set","legs":[],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":3,"v":1}');
INSERT INTO "entries" VALUES('acme',7,'lent',NULL,1795521600000,1795521600000,'3bebf82b156f4b196eaaed36f56a0d632cb5bd79c1b912ba9a3ca7c6ba2e49bd','{"actor":"sidecar:s1","customer":"acme","facts":{"granted":{"s1-inc/budget:bud_0001:2026-11-24:":200,"s1-inc/budget:bud_0002:2026-11:ada":200,"s1-inc/grant:grant_0001":200},"incarnation":"s1-inc"},"key":"","kind":"lent","legs":[["budget:bud_0001:2026-11-24:","source","usd",-500],["budget:bud_0001:2026-11-24:","available","usd",300],["budget:bud_0001:2026-11-24:","leased","usd",200],["budget:bud_0002:2026-11:ada","source","usd",-400],["budget:bud_0002:2026-11:ada","available","usd",200],["budget:bud_0002:2026-11:ada","leased","usd",200],["grant:grant_0001","available","usd",-200],["grant:grant_0001","leased","usd",200]],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":7,"v":1}');
INSERT INTO "entries" VALUES('acme',8,'usage','req_00000000000000000000000001',1795521600000,1795521600000,'d85986c97761b0e94cc77dff91818a2c784aaa25b84503335937d7565c3c8881','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"bench","budget_leases":["s1-inc/budget:bud_0001:2026-11-24:","s1-inc/budget:bud_0002:2026-11:ada"],"burn_order":"priority-expiry-promotional-effective-sequence/1","charge_atoms":30,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"chat","flags":[],"held_atoms":30,"incarnation":"s1-inc","model":"gpt-4o","paid":[["s1-inc/grant:grant_0001",30]],"path":"department:ops/team:data","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000001","session":"j1","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"ada"},"key":"req_00000000000000000000000001","kind":"usage","legs":[["budget:bud_0001:2026-11-24:","leased","usd",-30],["budget:bud_0001:2026-11-24:","consumed","usd",30],["budget:bud_0002:2026-11:ada","leased","usd",-30],["budget:bud_0002:2026-11:ada","consumed","usd",30],["grant:grant_0001","leased","usd",-30],["grant:grant_0001","consumed","usd",30]],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":8,"v":1}');
INSERT INTO "entries" VALUES('acme',9,'usage','req_00000000000000000000000002',1795521600000,1795521600000,'7ff180c36562bb7e8d4e7479dee0733b222db2b0dd767b76b6b3d160d35a09d6','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"bench","budget_leases":["s1-inc/budget:bud_0001:2026-11-24:","s1-inc/budget:bud_0002:2026-11:ada"],"burn_order":"priority-expiry-promotional-effective-sequence/1","charge_atoms":40,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"consulted":[{"currency":"usd","id":"b","kind":"budget","limit":9,"owner":"acme"}],"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"chat","flags":[],"held_atoms":40,"incarnation":"s1-inc","model":"gpt-4o","paid":[["s1-inc/grant:grant_0001",40]],"path":"department:ops/team:data","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000002","session":"j1","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"ada"},"key":"req_00000000000000000000000002","kind":"usage","legs":[["budget:bud_0001:2026-11-24:","leased","usd",-40],["budget:bud_0001:2026-11-24:","consumed","usd",40],["budget:bud_0002:2026-11:ada","leased","usd",-40],["budget:bud_0002:2026-11:ada","consumed","usd",40],["grant:grant_0001","leased","usd",-40],["grant:grant_0001","consumed","usd",40]],"occurred_at_ms":1795521600000,"recorded_at_ms":1795521600000,"sequence":9,"v":1}');
INSERT INTO "entries" VALUES('acme',10,'usage','req_00000000000000000000000003',1795521660000,1795521660000,'4b7a2a814fb851199ccd1522e04289708e0d4fe050eaa69de59a1e8e40292323','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"bench","budget_leases":["s1-inc/budget:bud_0001:2026-11-24:","s1-inc/budget:bud_0002:2026-11:ada"],"burn_order":"priority-expiry-promotional-effective-sequence/1","charge_atoms":500,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"chat","flags":["overrun"],"held_atoms":500,"incarnation":"s1-inc","model":"gpt-4o","paid":[["s1-inc/grant:grant_0001",100]],"path":"department:ops/team:data","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000003","session":"j1","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"ada"},"key":"req_00000000000000000000000003","kind":"usage","legs":[["budget:bud_0001:2026-11-24:","leased","usd",-130],["budget:bud_0001:2026-11-24:","consumed","usd",500],["budget:bud_0001:2026-11-24:","available","usd",-370],["budget:bud_0002:2026-11:ada","leased","usd",-130],["budget:bud_0002:2026-11:ada","consumed","usd",500],["budget:bud_0002:2026-11:ada","available","usd",-370],["grant:grant_0001","leased","usd",-100],["grant:grant_0001","consumed","usd",500],["grant:grant_0001","available","usd",-400]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":10,"v":1}');
INSERT INTO "entries" VALUES('acme',11,'threshold_crossed','budget:bud_0001:2026-11-24:@100#1',1795521660000,1795521660000,'55f8eb33e0904590da9ee85397c6843504502bfcfa87bcc483fdf11d60402bf4','{"actor":"ledger","customer":"acme","facts":{"account":"budget:bud_0001:2026-11-24:","budget_id":"bud_0001","limit_atoms":500,"percent":100,"used_atoms":570},"key":"budget:bud_0001:2026-11-24:@100#1","kind":"threshold_crossed","legs":[],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":11,"v":1}');
INSERT INTO "entries" VALUES('acme',12,'threshold_crossed','budget:bud_0002:2026-11:ada@100#1',1795521660000,1795521660000,'23708c9ef9753c1ff340ac22090f477830a13f35aa68a37a4d6bd0020bfd3c95','{"actor":"ledger","customer":"acme","facts":{"account":"budget:bud_0002:2026-11:ada","budget_id":"bud_0002","limit_atoms":400,"percent":100,"used_atoms":570},"key":"budget:bud_0002:2026-11:ada@100#1","kind":"threshold_crossed","legs":[],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":12,"v":1}');
INSERT INTO "entries" VALUES('acme',13,'usage','req_00000000000000000000000004',1795521660000,1795521660000,'f9ef0737855db40d9f5cdacd18d598bf2ef9486585b32139c54f471d2507b7cd','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"bench","budget_leases":["s1-inc/budget:bud_0001:2026-11-24:","s1-inc/budget:bud_0002:2026-11:ada"],"burn_order":"","charge_atoms":null,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"chat","flags":[],"held_atoms":0,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"department:ops/team:data","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000004","session":"j1","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"ada"},"key":"req_00000000000000000000000004","kind":"usage","legs":[],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":13,"v":1}');
INSERT INTO "entries" VALUES('acme',14,'usage','req_00000000000000000000000005',1795521660000,1795521660000,'3aace4c992f5bc9e72a4f8d3fab6a429813f2313714746942d90681af2ee8531','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"bench","budget_leases":["s1-inc/budget:none:lifetime:"],"burn_order":"","charge_atoms":7,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"chat","flags":["lease_unknown","overrun"],"held_atoms":7,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"department:ops/team:data","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000005","session":"j1","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"ada"},"key":"req_00000000000000000000000005","kind":"usage","legs":[["budget:bud_0001:2026-11-24:","available","usd",-7],["budget:bud_0001:2026-11-24:","consumed","usd",7],["budget:bud_0002:2026-11:ada","available","usd",-7],["budget:bud_0002:2026-11:ada","consumed","usd",7],["grant:grant_0001","available","usd",-7],["grant:grant_0001","consumed","usd",7]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":14,"v":1}');
INSERT INTO "entries" VALUES('acme',15,'usage','req_00000000000000000000000006',1795521660000,1795521660000,'0e5e71e45ba1c2d0190871165314a5ed4fbb02d7979c9fe553fbb56121d172e0','{"actor":"sidecar:s1","customer":"acme","facts":{"agent":"","budget_leases":[],"burn_order":"","charge_atoms":3,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"","flags":["path_unknown","overrun"],"held_atoms":3,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"team:none","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000006","session":"","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"\u00e9\u007f"},"key":"req_00000000000000000000000006","kind":"usage","legs":[["budget:bud_0001:2026-11-24:","available","usd",-3],["budget:bud_0001:2026-11-24:","consumed","usd",3],["grant:grant_0001","available","usd",-3],["grant:grant_0001","consumed","usd",3]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":15,"v":1}');
INSERT INTO "entries" VALUES('beta',4,'lent',NULL,1795521660000,1795521660000,'5ede3a2ada9fc9de367b25047a9d23122c96d7c9ef919656913a5dfa3e6a857d','{"actor":"sidecar:s1","customer":"beta","facts":{"granted":{"s1-inc/budget:bud_0003:lifetime:":100},"incarnation":"s1-inc"},"key":"","kind":"lent","legs":[["budget:bud_0003:lifetime:","source","usd",-900],["budget:bud_0003:lifetime:","available","usd",800],["budget:bud_0003:lifetime:","leased","usd",100]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":4,"v":1}');
INSERT INTO "entries" VALUES('beta',5,'usage','req_00000000000000000000000007',1795521660000,1795521660000,'1cc2bdf44be5772dc69e3e70c802400650cc84948c1a102d6b2dedcbaa2ce721','{"actor":"sidecar:s1","customer":"beta","facts":{"agent":"","budget_leases":["s1-inc/budget:bud_0003:lifetime:"],"burn_order":"","charge_atoms":20,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"","flags":[],"held_atoms":20,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000007","session":"","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"bo"},"key":"req_00000000000000000000000007","kind":"usage","legs":[["budget:bud_0003:lifetime:","leased","usd",-20],["budget:bud_0003:lifetime:","consumed","usd",20],["budget:bud_0004:2026-11-24:","source","usd",-50],["budget:bud_0004:2026-11-24:","available","usd",30],["budget:bud_0004:2026-11-24:","consumed","usd",20],["counted:usd","source","usd",-20],["counted:usd","consumed","usd",20]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":5,"v":1}');
INSERT INTO "entries" VALUES('beta',6,'usage','req_00000000000000000000000008',1795521660000,1795521660000,'78c6438a04b9f604e6e8028e6aadb6fd6b8c31da44f68caea61afccc6842d693','{"actor":"sidecar:s1","customer":"beta","facts":{"agent":"","budget_leases":["s1-inc/budget:bud_0003:lifetime:"],"burn_order":"","charge_atoms":20,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"","flags":[],"held_atoms":20,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000008","session":"","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"bo"},"key":"req_00000000000000000000000008","kind":"usage","legs":[["budget:bud_0003:lifetime:","leased","usd",-20],["budget:bud_0003:lifetime:","consumed","usd",20],["budget:bud_0004:2026-11-24:","available","usd",-20],["budget:bud_0004:2026-11-24:","consumed","usd",20],["counted:usd","source","usd",-20],["counted:usd","consumed","usd",20]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":6,"v":1}');
INSERT INTO "entries" VALUES('beta',7,'usage','req_00000000000000000000000009',1795521660000,1795521660000,'f7ac17a0c9645816dae1746f9480d800e1efc08aeedd75609d1debd4f044e380','{"actor":"sidecar:s1","customer":"beta","facts":{"agent":"","budget_leases":["s1-inc/budget:bud_0003:lifetime:"],"burn_order":"","charge_atoms":20,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"","flags":[],"held_atoms":20,"incarnation":"s1-inc","model":"gpt-4o","paid":[],"path":"","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000009","session":"","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"bo"},"key":"req_00000000000000000000000009","kind":"usage","legs":[["budget:bud_0003:lifetime:","leased","usd",-20],["budget:bud_0003:lifetime:","consumed","usd",20],["budget:bud_0004:2026-11-24:","available","usd",-20],["budget:bud_0004:2026-11-24:","consumed","usd",20],["counted:usd","source","usd",-20],["counted:usd","consumed","usd",20]],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":7,"v":1}');
INSERT INTO "entries" VALUES('beta',8,'threshold_crossed','budget:bud_0004:2026-11-24:@100#1',1795521660000,1795521660000,'ef2e5c941ba89bbae618d08c4a94b3d57fb69b5eaaa2752bcc12f033753bdf02','{"actor":"ledger","customer":"beta","facts":{"account":"budget:bud_0004:2026-11-24:","budget_id":"bud_0004","limit_atoms":50,"percent":100,"used_atoms":60},"key":"budget:bud_0004:2026-11-24:@100#1","kind":"threshold_crossed","legs":[],"occurred_at_ms":1795521660000,"recorded_at_ms":1795521660000,"sequence":8,"v":1}');
INSERT INTO "entries" VALUES('beta',9,'usage','req_00000000000000000000000010',1795528860000,1795528860000,'28c3a43df2165db96cf9129486fc85e566a573af4bfdc9a8f124bc30bfd1c759','{"actor":"sidecar:s1","customer":"beta","facts":{"agent":"","budget_leases":["s1-inc/budget:bud_0003:lifetime:"],"burn_order":"","charge_atoms":20,"currency":"usd","debt_atoms":0,"decision":{"catalog_sha256":"abababababababababababababababababababababababababababababababab","ceiling_atoms":9,"lease_age_ms":4,"plan":"default@1","rate_card":"openai/gpt-4o","source":"lease","standing_age_ms":3},"duration_ms":12,"ending":"complete","feature":"","flags":[],"held_atoms":20,"incarnation":"s1-inc","model":"gpt-4o-mini","paid":[],"path":"","product":"","protocol":"openai_chat","provider":"openai","request_id":"req_00000000000000000000000010","session":"","sidecar":"s1","state":"final","status":200,"tier":"","usage":{"lines":[{"tokens":{"cache_read_tokens":60,"input_tokens":100,"output_tokens":20}}],"raw":"eyJwcm9tcHRfdG9rZW5zIjoxMDB9","state":"final"},"user":"bo"},"key":"req_00000000000000000000000010","kind":"usage","legs":[["budget:bud_0003:lifetime:","leased","usd",-20],["budget:bud_0003:lifetime:","consumed","usd",20],["budget:bud_0004:2026-11-24:","available","usd",-20],["budget:bud_0004:2026-11-24:","consumed","usd",20],["counted:usd","source","usd",-20],["counted:usd","consumed","usd",20]],"occurred_at_ms":1795528860000,"recorded_at_ms":1795528860000,"sequence":9,"v":1}');
CREATE TABLE grants (
    customer TEXT NOT NULL REFERENCES customers (customer),
    grant_id TEXT NOT NULL,
    currency TEXT NOT NULL,
    issued_atoms INTEGER NOT NULL CHECK (issued_atoms > 0),
    effective_at_ms INTEGER NOT NULL,
    expires_at_ms INTEGER,
    category TEXT NOT NULL,
    priority INTEGER NOT NULL,
    models TEXT NOT NULL, -- JSON list of patterns
    features TEXT NOT NULL, -- JSON list of patterns
    sequence INTEGER NOT NULL,
    ended INTEGER NOT NULL DEFAULT 0, -- 1 once its expiry stands in the journal
    PRIMARY KEY (customer, grant_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "grants" VALUES('acme','grant_0001','usd',1000,1795521600000,NULL,'paid',0,'[]','[]',3,0);
INSERT INTO "grants" VALUES('acme','grant_0002','usd',100,1795521600000,NULL,'paid',0,'[]','[]',4,0);
CREATE TABLE idempotency (
    customer TEXT NOT NULL,
    operation TEXT NOT NULL,
    idempotency_key TEXT NOT NULL,
    request TEXT NOT NULL, -- JSON, keys sorted
    answer TEXT NOT NULL, -- JSON
    recorded_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, operation, idempotency_key)
) STRICT, WITHOUT ROWID;
INSERT INTO "idempotency" VALUES('acme','add_customer','key-1','{"wallet":"required"}','{"customer":"acme","wallet":"required","created_at_ms":1795521600000,"entries":1}',1795521600000);
INSERT INTO "idempotency" VALUES('acme','add_grant','key-4','{"amount":"0.000001","category":"paid","currency":"usd","customer":"acme","effective_at_ms":null,"expires_at_ms":null,"features":[],"models":[],"priority":0}','{"customer":"acme","grant_id":"grant_0001","category":"paid","priority":0,"issued":{"currency":"usd","atoms":1000,"scale":9,"text":"0.000001"},"available":{"currency":"usd","atoms":1000,"scale":9,"text":"0.000001"},"held":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"leased":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"consumed":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"expired":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"revoked":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"unaccounted":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"effective_at_ms":1795521600000,"expires_at_ms":null,"models":[],"features":[],"live":true}',1795521600000);
INSERT INTO "idempotency" VALUES('acme','add_grant','key-5','{"amount":"0.0000001","category":"paid","currency":"usd","customer":"acme","effective_at_ms":null,"expires_at_ms":null,"features":[],"models":[],"priority":0}','{"customer":"acme","grant_id":"grant_0002","category":"paid","priority":0,"issued":{"currency":"usd","atoms":100,"scale":9,"text":"0.0000001"},"available":{"currency":"usd","atoms":100,"scale":9,"text":"0.0000001"},"held":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"leased":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"consumed":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"expired":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"revoked":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"unaccounted":{"currency":"usd","atoms":0,"scale":9,"text":"0.00"},"effective_at_ms":1795521600000,"expires_at_ms":null,"models":[],"features":[],"live":true}',1795521600000);
INSERT INTO "idempotency" VALUES('acme','add_nodes','key-3','{"path":"acme/department:ops/team:data"}','[{"customer":"acme","path":"acme/department:ops","kind":"department","id":"ops","created_at_ms":1795521600000},{"customer":"acme","path":"acme/department:ops/team:data","kind":"team","id":"data","created_at_ms":1795521600000}]',1795521600000);
INSERT INTO "idempotency" VALUES('acme','set_budget','key-6','{"clamp":true,"currency":"usd","each":"","hard":true,"limit":"0.0000005","match":{},"path":"acme","per":"day"}','{"customer":"acme","budget_id":"bud_0001","path":"acme","limit":{"currency":"usd","atoms":500,"scale":9,"text":"0.0000005"},"per":"day","match":{},"each":"","hard":true,"version":1,"children":[],"more_children":false,"clamp":true}',1795521600000);
INSERT INTO "idempotency" VALUES('acme','set_budget','key-7','{"clamp":true,"currency":"usd","each":"user","hard":true,"limit":"0.0000004","match":{},"path":"acme/team:data","per":"month"}','{"customer":"acme","budget_id":"bud_0002","path":"acme/department:ops/team:data","limit":{"currency":"usd","atoms":400,"scale":9,"text":"0.0000004"},"per":"month","match":{},"each":"user","hard":true,"version":1,"children":[],"more_children":false,"clamp":true}',1795521600000);
INSERT INTO "idempotency" VALUES('beta','add_customer','key-2','{"wallet":"none"}','{"customer":"beta","wallet":"none","created_at_ms":1795521600000,"entries":1}',1795521600000);
INSERT INTO "idempotency" VALUES('beta','set_budget','key-8','{"clamp":true,"currency":"usd","each":"","hard":true,"limit":"0.0000009","match":{},"path":"beta","per":"lifetime"}','{"customer":"beta","budget_id":"bud_0003","path":"beta","limit":{"currency":"usd","atoms":900,"scale":9,"text":"0.0000009"},"per":"lifetime","match":{},"each":"","hard":true,"version":1,"children":[],"more_children":false,"clamp":true}',1795521600000);
INSERT INTO "idempotency" VALUES('beta','set_budget','key-9','{"clamp":true,"currency":"usd","each":"","hard":false,"limit":"0.00000005","match":{},"path":"beta","per":"day"}','{"customer":"beta","budget_id":"bud_0004","path":"beta","limit":{"currency":"usd","atoms":50,"scale":9,"text":"0.00000005"},"per":"day","match":{},"each":"","hard":false,"version":1,"children":[],"more_children":false,"clamp":true}',1795521600000);
CREATE TABLE incarnations (
    incarnation TEXT NOT NULL PRIMARY KEY,
    sidecar TEXT NOT NULL,
    started_at_ms INTEGER NOT NULL,
    ended_at_ms INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO "incarnations" VALUES('s1-inc','s1',1795521600000,NULL);
CREATE TABLE leases (
    customer TEXT NOT NULL REFERENCES customers (customer),
    lease_id TEXT NOT NULL,
    account TEXT NOT NULL,
    sidecar TEXT NOT NULL,
    incarnation TEXT NOT NULL,
    granted INTEGER NOT NULL,
    returned INTEGER NOT NULL,
    posted INTEGER NOT NULL,
    closed INTEGER NOT NULL,
    pays_until_ms INTEGER NOT NULL, -- its holder cannot admit later than this without talking to us
    PRIMARY KEY (customer, lease_id)
) STRICT, WITHOUT ROWID;
INSERT INTO "leases" VALUES('acme','s1-inc/budget:bud_0001:2026-11-24:','budget:bud_0001:2026-11-24:','s1','s1-inc',200,0,570,0,1795522500000);
INSERT INTO "leases" VALUES('acme','s1-inc/budget:bud_0002:2026-11:ada','budget:bud_0002:2026-11:ada','s1','s1-inc',200,0,570,0,1795522500000);
INSERT INTO "leases" VALUES('acme','s1-inc/grant:grant_0001','grant:grant_0001','s1','s1-inc',200,0,170,0,1795522500000);
INSERT INTO "leases" VALUES('beta','s1-inc/budget:bud_0003:lifetime:','budget:bud_0003:lifetime:','s1','s1-inc',100,0,80,0,1795522560000);
CREATE TABLE meta (
    name TEXT NOT NULL PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;
INSERT INTO "meta" VALUES('heard:s1','8');
INSERT INTO "meta" VALUES('history_id','history_0001');
CREATE TABLE migrations (
    number INTEGER NOT NULL PRIMARY KEY,
    name TEXT NOT NULL,
    sha256 TEXT NOT NULL
);
INSERT INTO "migrations" VALUES(1,'book','93a633da355c6e7615907b78f1be88e49dade1c29bc7dc38b62d617dc1b80c14');
INSERT INTO "migrations" VALUES(2,'budget_clamp','dfc18a0074b51d53d1b6c987a6fb2387305d242025ead7a1fd0d7f37eccca9fc');
CREATE TABLE nodes (
    customer TEXT NOT NULL REFERENCES customers (customer),
    kind TEXT NOT NULL,
    id TEXT NOT NULL,
    path TEXT NOT NULL, -- canonical, with every ancestor and itself: 'department:a/team:b'
    created_at_ms INTEGER NOT NULL,
    PRIMARY KEY (customer, kind, id)
) STRICT, WITHOUT ROWID;
INSERT INTO "nodes" VALUES('acme','department','ops','department:ops',1795521600000);
INSERT INTO "nodes" VALUES('acme','team','data','department:ops/team:data',1795521600000);
CREATE UNIQUE INDEX budgets_identity ON budgets (customer, node, match, each_child, cadence, currency);
CREATE INDEX leases_open ON leases (customer, account) WHERE closed = 0;
CREATE INDEX leases_of_incarnation ON leases (incarnation) WHERE closed = 0;
CREATE INDEX children_by_time ON children (customer, first_seen_at_ms);
CREATE UNIQUE INDEX entries_once ON entries (entry_key, kind, customer) WHERE entry_key IS NOT NULL;
CREATE INDEX usage_by_time ON entries (recorded_at_ms, customer, sequence) WHERE kind = 'usage';
CREATE TRIGGER entries_are_not_updated BEFORE UPDATE ON entries
BEGIN
    SELECT raise(ABORT, 'entries are never updated');
END;
CREATE TRIGGER entries_are_not_deleted BEFORE DELETE ON entries
BEGIN
    SELECT raise(ABORT, 'entries are never deleted');
END;
COMMIT;
