-- A database as the program made it with its migration 0002: PostgreSQL besides SQLite.
BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0002');
CREATE TABLE deleted_threads (
	id VARCHAR(36) NOT NULL, 
	deleted_at VARCHAR(40) NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "deleted_threads" VALUES('thread-gone','2026-11-20T08:00:12.000000+00:00');
CREATE TABLE elements (
	position INTEGER NOT NULL, 
	id VARCHAR(36) NOT NULL, 
	thread_id VARCHAR(36) NOT NULL, 
	step_id VARCHAR(36), 
	content JSON NOT NULL, 
	PRIMARY KEY (position), 
	UNIQUE (id), 
	FOREIGN KEY(thread_id) REFERENCES threads (id) ON DELETE CASCADE
);
INSERT INTO "elements" VALUES(1,'rice-e','thread-rice','rice-a','{"id": "rice-e", "type": "custom", "name": "ReplyStatus", "props": {"phase": "finished", "metrics": {"seconds": 1.5}}}');
CREATE TABLE feedback (
	id VARCHAR(36) NOT NULL, 
	thread_id VARCHAR(36) NOT NULL, 
	step_id VARCHAR(36) NOT NULL, 
	value INTEGER NOT NULL, 
	comment TEXT, 
	created_at VARCHAR(40) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(thread_id) REFERENCES threads (id) ON DELETE CASCADE, 
	UNIQUE (step_id), 
	FOREIGN KEY(step_id) REFERENCES steps (id) ON DELETE CASCADE
);
INSERT INTO "feedback" VALUES('00000000-0000-4000-8000-000000000003','thread-rice','rice-a',1,'tasty','2026-11-20T08:00:07.000000+00:00');
CREATE TABLE steps (
	position INTEGER NOT NULL, 
	id VARCHAR(36) NOT NULL, 
	thread_id VARCHAR(36) NOT NULL, 
	parent_id VARCHAR(36), 
	type VARCHAR(40) NOT NULL, 
	name TEXT NOT NULL, 
	input TEXT NOT NULL, 
	output TEXT NOT NULL, 
	is_error BOOLEAN NOT NULL, 
	metadata JSON NOT NULL, 
	display JSON NOT NULL, 
	created_at VARCHAR(40), 
	started_at VARCHAR(40), 
	ended_at VARCHAR(40), 
	PRIMARY KEY (position), 
	UNIQUE (id), 
	FOREIGN KEY(thread_id) REFERENCES threads (id) ON DELETE CASCADE
);
INSERT INTO "steps" VALUES(1,'rice-q','thread-rice',NULL,'user_message','You','','How do I cook rice? 🍚',0,'{"tokens": {"guide": 7}}','{}','2026-11-20T08:00:00Z',NULL,NULL);
INSERT INTO "steps" VALUES(2,'rice-t','thread-rice',NULL,'llm','Thinking','','Water first;
then it''s ''rice''.',0,'{}','{"showInput": false, "defaultOpen": false}','2026-11-20T08:00:01Z','2026-11-20T08:00:01Z','2026-11-20T08:00:02Z');
INSERT INTO "steps" VALUES(3,'rice-a','thread-rice',NULL,'assistant_message','chat','','Boil it.',0,'{"left_out": 0}','{}','2026-11-20T08:00:02Z',NULL,NULL);
INSERT INTO "steps" VALUES(4,'ru-q','thread-ru',NULL,'user_message','You','','Привет, МИР',0,'{}','{}','2026-11-20T08:01:00Z',NULL,NULL);
CREATE TABLE threads (
	id VARCHAR(36) NOT NULL, 
	user_id VARCHAR(36) NOT NULL, 
	name TEXT, 
	metadata JSON NOT NULL, 
	tags JSON, 
	created_at VARCHAR(40) NOT NULL, 
	updated_at VARCHAR(40) NOT NULL, 
	PRIMARY KEY (id), 
	FOREIGN KEY(user_id) REFERENCES users (id) ON DELETE CASCADE
);
INSERT INTO "threads" VALUES('thread-rice','00000000-0000-4000-8000-000000000001','How do I cook rice? 🍚','{"chat_settings": {"model": "guide"}}','["x"]','2026-11-20T08:00:03.000000+00:00','2026-11-20T08:00:06.000000+00:00');
INSERT INTO "threads" VALUES('thread-ru','00000000-0000-4000-8000-000000000002','Привет, МИР','{}',NULL,'2026-11-20T08:00:08.000000+00:00','2026-11-20T08:00:09.000000+00:00');
CREATE TABLE users (
	id VARCHAR(36) NOT NULL, 
	identifier TEXT NOT NULL, 
	metadata JSON NOT NULL, 
	created_at VARCHAR(40) NOT NULL, 
	PRIMARY KEY (id), 
	UNIQUE (identifier)
);
INSERT INTO "users" VALUES('00000000-0000-4000-8000-000000000001','anon-ann','{"preferences": {"temperature": 0.7, "system_prompt": "\u041a\u0440\u0430\u0442\u043a\u043e"}}','2026-11-20T08:00:01.000000+00:00');
INSERT INTO "users" VALUES('00000000-0000-4000-8000-000000000002','anon-bob','{}','2026-11-20T08:00:02.000000+00:00');
CREATE INDEX threads_by_user ON threads (user_id, updated_at);
CREATE INDEX steps_by_thread ON steps (thread_id, position);
CREATE INDEX elements_by_thread ON elements (thread_id, position);
CREATE INDEX feedback_by_thread ON feedback (thread_id);
CREATE INDEX elements_by_step ON elements (step_id);
COMMIT;
