class Workflow:
    def __init__(self, name, llm_config, dataset):
        self.name = name
        self.dataset = dataset
        self.llm = create_llm_instance(llm_config)

    async def __call__(self, problem):
        """Asks the model once, zero-shot."""
        # Step 1: Ask once, zero-shot
        answers = await self.llm.call_llm(
            messages=["Is this review positive or negative? " + problem],
            temperature=0.0,
            max_tokens=24,
        )
        return answers[0], self.llm.get_usage_summary()["total_cost"]
