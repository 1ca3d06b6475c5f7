"The agent: takes questions apart, gathers evidence it can cite, and answers."
