BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('v3.2.0.a');
CREATE TABLE studies (
	study_id INTEGER NOT NULL, 
	study_name VARCHAR(512) NOT NULL, 
	PRIMARY KEY (study_id)
);
INSERT INTO "studies" VALUES(1,'smoke');
CREATE TABLE study_directions (
	study_direction_id INTEGER NOT NULL, 
	direction VARCHAR(8) NOT NULL, 
	study_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	PRIMARY KEY (study_direction_id), 
	UNIQUE (study_id, objective), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_directions" VALUES(1,'MINIMIZE',1,0);
CREATE TABLE study_system_attributes (
	study_system_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_system_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
CREATE TABLE study_user_attributes (
	study_user_attribute_id INTEGER NOT NULL, 
	study_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (study_user_attribute_id), 
	UNIQUE (study_id, "key"), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "study_user_attributes" VALUES(1,1,'enqueued','true');
CREATE TABLE trial_heartbeats (
	trial_heartbeat_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	heartbeat DATETIME NOT NULL, 
	PRIMARY KEY (trial_heartbeat_id), 
	UNIQUE (trial_id), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_intermediate_values (
	trial_intermediate_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	step INTEGER NOT NULL, 
	intermediate_value FLOAT, 
	intermediate_value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_intermediate_value_id), 
	UNIQUE (trial_id, step), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_params (
	param_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	param_name VARCHAR(512), 
	param_value FLOAT, 
	distribution_json TEXT, 
	PRIMARY KEY (param_id), 
	UNIQUE (trial_id, param_name), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_params" VALUES(1,1,'sparsity',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.8]}}');
INSERT INTO "trial_params" VALUES(2,1,'method',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["csp", "magnitude", "movement", "lottery"]}}');
INSERT INTO "trial_params" VALUES(3,2,'sparsity',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.8]}}');
INSERT INTO "trial_params" VALUES(4,2,'method',1.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["csp", "magnitude", "movement", "lottery"]}}');
INSERT INTO "trial_params" VALUES(5,3,'sparsity',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.8]}}');
INSERT INTO "trial_params" VALUES(6,3,'method',2.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["csp", "magnitude", "movement", "lottery"]}}');
INSERT INTO "trial_params" VALUES(7,4,'sparsity',0.0,'{"name": "CategoricalDistribution", "attributes": {"choices": [0.8]}}');
INSERT INTO "trial_params" VALUES(8,4,'method',3.0,'{"name": "CategoricalDistribution", "attributes": {"choices": ["csp", "magnitude", "movement", "lottery"]}}');
CREATE TABLE trial_system_attributes (
	trial_system_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_system_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_system_attributes" VALUES(1,1,'fixed_params','{"sparsity": 0.8, "method": "csp"}');
INSERT INTO "trial_system_attributes" VALUES(2,2,'fixed_params','{"sparsity": 0.8, "method": "magnitude"}');
INSERT INTO "trial_system_attributes" VALUES(3,3,'fixed_params','{"sparsity": 0.8, "method": "movement"}');
INSERT INTO "trial_system_attributes" VALUES(4,4,'fixed_params','{"sparsity": 0.8, "method": "lottery"}');
CREATE TABLE trial_user_attributes (
	trial_user_attribute_id INTEGER NOT NULL, 
	trial_id INTEGER, 
	"key" VARCHAR(512), 
	value_json TEXT, 
	PRIMARY KEY (trial_user_attribute_id), 
	UNIQUE (trial_id, "key"), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
CREATE TABLE trial_values (
	trial_value_id INTEGER NOT NULL, 
	trial_id INTEGER NOT NULL, 
	objective INTEGER NOT NULL, 
	value FLOAT, 
	value_type VARCHAR(7) NOT NULL, 
	PRIMARY KEY (trial_value_id), 
	UNIQUE (trial_id, objective), 
	FOREIGN KEY(trial_id) REFERENCES trials (trial_id)
);
INSERT INTO "trial_values" VALUES(1,1,0,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(2,2,0,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(3,3,0,1.0,'FINITE');
INSERT INTO "trial_values" VALUES(4,4,0,1.0,'FINITE');
CREATE TABLE trials (
	trial_id INTEGER NOT NULL, 
	number INTEGER, 
	study_id INTEGER, 
	state VARCHAR(8) NOT NULL, 
	datetime_start DATETIME, 
	datetime_complete DATETIME, 
	PRIMARY KEY (trial_id), 
	FOREIGN KEY(study_id) REFERENCES studies (study_id)
);
INSERT INTO "trials" VALUES(1,0,1,'COMPLETE','2026-11-26 13:44:48.458733','2026-11-26 13:44:51.497555');
INSERT INTO "trials" VALUES(2,1,1,'COMPLETE','2026-11-26 13:44:51.507697','2026-11-26 13:44:53.727054');
INSERT INTO "trials" VALUES(3,2,1,'COMPLETE','2026-11-26 13:44:53.737324','2026-11-26 13:44:55.627490');
INSERT INTO "trials" VALUES(4,3,1,'COMPLETE','2026-11-26 13:44:55.634130','2026-11-26 13:44:57.181602');
CREATE TABLE version_info (
	version_info_id INTEGER NOT NULL, 
	schema_version INTEGER, 
	library_version VARCHAR(256), 
	PRIMARY KEY (version_info_id), 
	CHECK (version_info_id=1)
);
INSERT INTO "version_info" VALUES(1,12,'5.0.0');
CREATE UNIQUE INDEX ix_studies_study_name ON studies (study_name);
CREATE INDEX ix_trials_study_id ON trials (study_id);
COMMIT;
